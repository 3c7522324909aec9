"""The text of a site file: says where each value is from, and is read back as what went in, whatever the names."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from runplan import cli
from runplan.discover.found import Offer, Setting, Site
from runplan.discover.site_text import pointed, pointer_text, site_text

# One text is a reference by intent, and nobody calls a thing so.
NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20).filter("${site.output_root}".__ne__)


def site(*settings: Setting, facts: tuple[str, ...] = (), resources: str | None = None) -> Site:
    return Site("lab", settings, facts, Setting("resources", resources, "the only kind", (Offer("a100-40", "sinfo"),)))


def test_values_say_where_they_are_from_and_the_rest_is_commented():
    text = site_text(
        site(
            Setting("models_dir", "/m/base models", "given with --models"),
            Setting("data_dir", None, "2 folders found", (Offer("/a", "holds 1 data file"), Offer("/b", "holds 2"))),
            Setting("priors", ("${site.output_root}", "/logs"), "17 logs in /logs"),
            Setting("partition", None, "several", (Offer("gpu", "limit 1:00:00"),)),
            Setting("modules", None, "none loaded", (Offer("cuda/12.8", "module avail"),)),
            facts=("partition gpu: 4 nodes",),
            resources="h100-80",
        ),
        {"data_dir": "data", "modules": []},
    )
    assert text.splitlines()[1:] == [
        "# partition gpu: 4 nodes",
        "defaults:",
        "  - _site",
        "  - _self_",
        "  - override /resources@_global_.resources: h100-80  # the only kind",
        "  # - override /resources@_global_.resources: a100-40  # sinfo",
        "",
        "name: lab",
        "models_dir: /m/base models  # given with --models",
        "# data_dir: data  # runplan's own; 2 folders found",
        "#   data_dir: /a  # holds 1 data file",
        "#   data_dir: /b  # holds 2",
        "priors: ['${site.output_root}', /logs]  # 17 logs in /logs",
        "partition: null  # several",
        "#   partition: gpu  # limit 1:00:00",
        "# modules: []  # runplan's own; none loaded",
        "#   modules: [cuda/12.8]  # module avail",
    ]


@given(NAMES, NAMES, NAMES)
def test_any_name_is_read_back_and_breaks_no_line(value, said, offer):
    text = site_text(
        site(
            Setting("models_dir", value, said, (Offer(offer, said),)),
            Setting("modules", (value, offer), said, (Offer(offer, offer),)),
            facts=(said,),
        )
    )
    found = OmegaConf.to_container(OmegaConf.create(text), resolve=True)
    assert found["models_dir"] == value
    assert found["modules"] == [value, offer]
    assert found.keys() == {"defaults", "name", "models_dir", "modules"}
    assert yaml.safe_load(text).keys() == found.keys()


@pytest.mark.parametrize(
    "hostile", ["a\nname: evil", "x # y", "${oc.env:HOME}", "\x85z", "\ufeff\ufffe", "\udcff", "- a"]
)
def test_comments_stay_comments(hostile):
    text = site_text(site(Setting("partition", None, hostile, (Offer("p", hostile),)), facts=(hostile,)))
    assert yaml.safe_load(text.encode("utf-8")) == {
        "defaults": ["_site", "_self_"],
        "name": "lab",
        "partition": None,
    }


def test_the_pointer_says_its_site_and_a_users_own_file_says_none():
    assert pointed(pointer_text("lab")) == "lab"
    assert pointed("defaults:\n  - _site\n  - _self_\nname: local\n") is None
    assert pointed("models_dir: /m\n") is None
    assert pointed("]") is None


def test_a_site_file_and_its_pointer_compose(capsys):
    made = site(
        Setting("models_dir", "/m/a b ${c} 'd'", "x"),
        Setting("partition", "gpu", "x"),
        Setting("priors", ("${site.output_root}", "/logs"), "x"),
        resources="h100-80",
    )
    folder = Path("conf/site")
    folder.mkdir(parents=True)
    (folder / "lab.yaml").write_text(site_text(made), encoding="utf-8")
    (folder / "local.yaml").write_text(pointer_text("lab"), encoding="utf-8")
    for words, gpu in (([], "h100-80"), (["site=lab"], "h100-80"), (["resources=a40-48"], "a40-48")):
        assert cli.main(["--cfg", "job", *words]) == 0
        config = OmegaConf.create(capsys.readouterr().out)
        assert config.site.name == "lab"
        assert config.site.models_dir == "/m/a b ${c} 'd'"
        assert config.site.priors == ["outputs", "/logs"]
        assert config.resources.gpu == gpu
        assert config.resources.partition == "gpu"
