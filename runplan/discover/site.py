"""From what was found to what a site file says: chosen where there is one candidate, listed where there are several.

Pure. A value is written only where the user gave it, the machine has exactly one, or this shell is in it; each says so.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Collection, Sequence

from runplan.discover.found import Discovered, Environment, Offer, Setting, Site, Wishes
from runplan.discover.gpu_types import node_options, options_of
from runplan.discover.places import data_setting, log_setting, model_setting, output_setting, things
from runplan.errors import ConfigError, Problem
from runplan.slurm.cluster import Cluster, Partition
from runplan.suggest import did_you_mean, listed
from runplan.units import slurm_time

POINTER = "local"
"""The option of `site` that is used when none is named."""
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*")
_TAKEN = frozenset({POINTER, "null", "true", "false", "nan", "inf"})
"""The pointer, and words that Hydra reads as something else than text."""
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_.-]+")


def site_of(found: Discovered, wishes: Wishes, known: Collection[str]) -> Site:
    """The site file of a machine.

    Args:
        found: what is there.
        wishes: what the user said; it is checked, and taken as it is.
        known: options of `conf/resources`.

    Raises:
        ConfigError: a partition or an account that SLURM does not have.
    """
    _check(found.cluster, wishes)
    partition = _partition(found.cluster, wishes.partition)
    chosen = found.cluster.partition(partition.value) if found.cluster and isinstance(partition.value, str) else None
    used = chosen or (found.cluster.partition(None) if found.cluster else None)
    settings = (
        model_setting(found, wishes),
        data_setting(found, wishes),
        output_setting(found),
        log_setting(found, wishes),
        partition,
        _account(found.cluster, wishes.account),
        _qos(found.cluster, used),
        _constraint(used, known),
        _modules(found),
        *_environment(found),
    )
    facts = (*_partition_facts(found.cluster, known), *things(found), *(f"not known: {line}" for line in found.unknown))
    return Site(site_name(found, wishes), settings, facts, _resources(found, used, known), _trainer(found))


def site_name(found: Discovered, wishes: Wishes) -> str:
    """What the user says, else SLURM's name for the cluster, else the machine's first name; fit for an option.

    Raises:
        ConfigError: the user's name cannot be an option of `site`.
    """
    if wishes.name is not None:
        if not _NAME.fullmatch(wishes.name) or wishes.name.lower() in _TAKEN:
            what = f"{wishes.name!r} cannot name a site"
            fix = f"a letter, then letters, digits, '.', '_', '-'; not {POINTER!r}, which stands for the site in use"
            raise ConfigError([Problem(what, "NAME", fix)])
        return wishes.name
    said = (found.cluster.name if found.cluster else "") or found.host.partition(".")[0]
    name = _NOT_IN_NAMES.sub("-", said).strip("._-") or "machine"
    if not name[0].isalpha():
        name = f"site-{name}"
    return f"{name}-site" if name.lower() in _TAKEN else name


def _check(cluster: Cluster | None, wishes: Wishes) -> None:
    problems = []
    names = [partition.name for partition in cluster.partitions] if cluster else []
    if wishes.partition and names and wishes.partition not in names:
        fix = did_you_mean(wishes.partition, names, f"partitions: {listed(names)}")
        problems.append(Problem(f"SLURM has no partition {wishes.partition!r}", "--partition", fix))
    problems += [
        Problem(
            f"{path!r} has a $, which runplan expands in folder names", "command line", "link it under another name"
        )
        for path in (*wishes.models, *wishes.data, *wishes.logs)
        if "$" in path
    ]
    accounts = cluster.accounts if cluster else None
    if wishes.account and accounts is not None and wishes.account not in accounts:
        fix = did_you_mean(wishes.account, accounts, f"accounts: {listed(accounts)}")
        problems.append(Problem(f"you may not charge the account {wishes.account!r}", "--account", fix))
    if problems:
        raise ConfigError(problems)


def _said_of(partition: Partition) -> str:
    """`limit 1-00:00:00, 4 nodes with 8 GPUs (a100), 32 CPUs and 586 GiB`, kinds of nodes apart."""
    kinds = []
    for shape in partition.shapes:
        types = f" ({', '.join(shape.gpu_types)})" if shape.gpu_types else ""
        gpus = f"{shape.gpus} GPU{'s' * (shape.gpus != 1)}{types}, " if shape.gpus else ""
        nodes = f"{shape.nodes} node{'s' * (shape.nodes != 1)}"
        kinds.append(f"{nodes} with {gpus}{shape.cpus} CPUs, {shape.memory_gib:.0f} GiB")
    limit = "no limit" if partition.time_limit_s is None else f"limit {slurm_time(partition.time_limit_s)}"
    return "; ".join([limit, *kinds])


def _usable(cluster: Cluster) -> list[Partition]:
    """Partitions with GPUs that are up and that the user may use, as far as SLURM says."""
    mine = cluster.accounts
    return [
        item
        for item in cluster.partitions
        if item.up
        and item.gpus_per_node
        and (mine is None or item.accounts is None or set(mine) & set(item.accounts))
        and (mine is None or not set(mine) <= set(item.denied_accounts))
    ]


def _partition(cluster: Cluster | None, wish: str | None) -> Setting:
    if wish:
        return Setting("partition", wish, "given with --partition")
    if cluster is None:
        return Setting("partition", None, "no SLURM on this machine (no sbatch on PATH)")
    if not cluster.partitions:
        return Setting("partition", None, "SLURM did not say which there are")
    return _found_partition(cluster.partition(None), _usable(cluster))


def _found_partition(default: Partition | None, usable: Sequence[Partition]) -> Setting:
    offers = tuple(Offer(item.name, _said_of(item)) for item in usable)
    if default is not None and default in usable:
        others = tuple(offer for offer in offers if offer.value != default.name)
        return Setting("partition", None, f"SLURM's default, {default.name}, has GPUs", others)
    if len(usable) == 1:
        return Setting("partition", usable[0].name, "the only one with GPUs (sinfo)")
    said = f"{len(usable)} have GPUs, and SLURM's default has none" if usable else "sinfo shows none with GPUs for you"
    return Setting("partition", None, said, offers)


def _silence(cluster: Cluster | None) -> str:
    """Why nothing is known of what the user may charge."""
    if cluster is None:
        return "no SLURM here"
    return "sacctmgr names none of yours" if cluster.partitions else "SLURM did not answer"


def _account(cluster: Cluster | None, wish: str | None) -> Setting:
    if wish:
        return Setting("account", wish, "given with --account")
    if cluster is None or cluster.accounts is None:
        return Setting("account", None, _silence(cluster))
    if len(cluster.accounts) == 1:
        return Setting("account", cluster.accounts[0], "your only one (sacctmgr show assoc)")
    if not cluster.accounts:
        return Setting("account", None, "sacctmgr names none for you")
    offers = tuple(Offer(name, "sacctmgr show assoc") for name in cluster.accounts)
    return Setting("account", None, f"your default; you may charge {len(offers)}", offers)


def _qos(cluster: Cluster | None, partition: Partition | None) -> Setting:
    if cluster is None or not cluster.qos:
        return Setting("qos", None, _silence(cluster))
    allowed = [name for name in cluster.qos if partition is None or partition.qos is None or name in partition.qos]
    return Setting("qos", None, "your default", tuple(Offer(name, "sacctmgr show assoc") for name in allowed))


def _constraint(partition: Partition | None, known: Collection[str]) -> Setting:
    """Features by which nodes with GPUs differ; to be chosen by the user, since it narrows where a job may run."""
    shapes = [shape for shape in partition.shapes if shape.gpus] if partition else []
    if len(shapes) < 2:
        return Setting("constraint", None, "nodes with GPUs are of one kind" if shapes else "nothing to choose from")
    shared = set.intersection(*(set(shape.features) for shape in shapes))
    offers: dict[str, Offer] = {}
    for shape in shapes:
        gpus = ", ".join(node_options(shape, known)) or "GPUs of unknown type"
        for feature in shape.features:
            if feature not in shared:
                offers.setdefault(feature, Offer(feature, f"{shape.nodes} nodes with {shape.gpus} × {gpus}"))
    return Setting("constraint", None, "nodes with GPUs differ", tuple(offers.values()))


def _resources(found: Discovered, partition: Partition | None, known: Collection[str]) -> Setting:
    """The kind of GPU that runs are planned for: where there is only one it can be."""
    if partition is not None:
        shapes = [shape for shape in partition.shapes if shape.gpus]
        where = f"sinfo, partition {partition.name}"
    else:
        shapes, where = [], "nvidia-smi"
    kinds = [node_options(shape, known) for shape in shapes]
    if partition is None and (found.cluster is None or not found.cluster.partitions):
        kinds = [options_of(name, known) for name in dict.fromkeys(found.gpus_here)]
    options = list(dict.fromkeys(option for kind in kinds for option in kind))
    if len(options) == 1 and all(kinds):
        return Setting("resources", options[0], f"the only kind of GPU ({where})")
    if not options:
        what = "GPUs of a type runplan has no file for" if kinds else "no GPU seen"
        return Setting("resources", None, f"{what} ({where}); conf/resources lists the kinds")
    return Setting("resources", None, f"may be several ({where})", tuple(Offer(option, where) for option in options))


def _modules(found: Discovered) -> Setting:
    loaded = tuple(name for name in found.loaded_modules if name in found.modules or not found.modules)
    offers = tuple(Offer(name, "module avail") for name in found.modules if name not in loaded)
    if loaded:
        return Setting("modules", loaded, "loaded in this shell (LOADEDMODULES)", offers)
    return Setting("modules", None, "none is loaded in this shell" if offers else "no environment modules here", offers)


def _chosen_environment(found: Discovered) -> tuple[Environment | None, str]:
    """The environment that trains, and why: the only one that can, or this shell's; torchtune counts before TRL."""
    for name in ("torchtune", "trl"):
        able = [item for item in found.environments if getattr(item, name)]
        active = [item for item in able if item.active]
        if active:
            return active[0], "in use here"
        if len(able) == 1:
            return able[0], f"the only one found with {name}"
        if able:
            return None, f"{len(able)} have {name}"
    return None, "none found with torchtune or trl"


def _environment(found: Discovered) -> tuple[Setting, Setting]:
    chosen, why = _chosen_environment(found)
    made = []
    for key, kind in (("conda_env", "conda"), ("venv", "venv")):
        rest = [item for item in found.environments if item.kind == kind and item is not chosen]
        rest.sort(key=lambda item: (not item.torchtune, not item.trl, item.name))
        offers = tuple(Offer(item.name, _said_of_environment(item)) for item in rest)
        if chosen is not None and chosen.kind == kind:
            made.append(Setting(key, chosen.name, f"{chosen.trainers}; {why}: {chosen.path}", offers))
        elif chosen is not None:
            made.append(Setting(key, None, f"not needed beside {chosen.name}", offers))
        else:
            made.append(Setting(key, None, why, offers))
    return made[0], made[1]


def _trainer(found: Discovered) -> Setting:
    """TRL where the environment has it and no torchtune; an offer where it has both."""
    chosen, _ = _chosen_environment(found)
    if chosen is None or not chosen.trl:
        return Setting("trainer", None, "")
    where = f"{chosen.trainers} in {chosen.name}"
    if not chosen.torchtune:
        return Setting("trainer", "trl", where)
    return Setting("trainer", None, "torchtune is", (Offer("trl", where),))


def _said_of_environment(item: Environment) -> str:
    return f"{item.trainers or 'no torchtune'}; {posixpath.normpath(item.path)}"


def _partition_facts(cluster: Cluster | None, known: Collection[str]) -> Sequence[str]:
    if cluster is None:
        return []
    lines = []
    for item in cluster.partitions:
        options = sorted({option for shape in item.shapes for option in node_options(shape, known)})
        gpus = f"; GPU: {' or '.join(options)}" if options else ""
        marks = f"{' (default)' * item.default}{' (down)' * (not item.up)}"
        lines.append(f"partition {item.name}{marks}: {_said_of(item)}{gpus}")
    if cluster.max_submit_jobs is not None:
        lines.append(f"at most {cluster.max_submit_jobs} jobs submitted at a time (sacctmgr, MaxSubmit)")
    if cluster.max_array_size is not None:
        lines.append(f"arrays of at most {cluster.max_array_size} jobs (scontrol, MaxArraySize)")
    return lines
