from __future__ import annotations

import io
import re
from collections import Counter

import pytest
from factories_plan import make_plan, make_sizing, plan_templates

from runplan.files.diff import GroupDiff
from runplan.files.document import plan_document
from runplan.files.store import WriteResult
from runplan.paths import TEMPLATES_DIR
from runplan.plan import RunType
from runplan.summary.blocks import Commands, Item, Section
from runplan.summary.design import design_title
from runplan.summary.overview import all_runs, sections
from runplan.summary.readme import RESULTS_END, RESULTS_START, carry_results, markdown, readme
from runplan.summary.screen import encodable, print_summary

HEADINGS = [
    "# Run Plan Summary", "## Run Design", "## Variables", "## All Runs", "## Resources Verified", "## Configuration",
    "## Estimates", "## How to submit",
]  # fmt: skip
HOSTILE = "a'; echo x | b\n<!-- runplan:results -->\n`rm`\x1b[31m"


def text_of(plan):
    return readme(plan, plan_templates())


def printed(plan, result=None, stream=None, **more):
    stream = stream or io.StringIO()
    print_summary(plan, result, stream=stream, **more)
    return stream.getvalue()


def test_headings_stand_in_order():
    assert [line for line in text_of(make_plan()).splitlines() if line.startswith("#")] == HEADINGS
    assert (TEMPLATES_DIR / "group" / "README.md.j2").is_file()


def test_the_design_is_said():
    text = text_of(make_plan())
    assert "- **Type**: 2×2 Factorial Design" in text
    assert "- **Total Runs**: 6 (4 fine-tuned + 2 controls)" in text
    assert "| Model | 1B, 3B |" in text
    assert "| LoRA Rank | 4, 64 |" in text


def test_all_runs_as_people_read_them():
    table = all_runs(plan_document(make_plan()))
    assert table.headers == ("Run Name", "Model", "LoRA Rank", "Batch Size", "Type", "Est. Time", "Est. Memory")
    assert table.rows[0] == (
        "1B_rank4", "1B", "4", "4", "Fine-tuned", "10min (p95 15min)", "11.1 GiB (p95 12.3)",
    )  # fmt: skip
    assert table.rows[-1] == ("3B_base", "3B", "-", "-", "Control", "eval only", "-")


def test_full_names_come_with_the_checkpoint():
    document = plan_document(make_plan())
    assert all(run["base_model"].endswith("-Instruct") for run in document["runs"])
    rows = all_runs(document | {"naming": "full"}).rows
    assert {row[1] for row in rows} == {"Llama-3.2-1B-Instruct", "Llama-3.2-3B-Instruct"}
    assert "- **Base model**: Llama-3.2-1B-Instruct (1B), Llama-3.2-3B-Instruct (3B)" in text_of(make_plan())


def test_of_very_many_levels_some_are_shown_and_how_many():
    document = plan_document(make_plan()) | {"design": {"type": "x", "factors": {"seed": list(range(30_000))}}}
    (variables,) = (section for section in sections(document, "/g") if section.heading == "Variables")
    (row,) = variables.blocks[0].rows
    assert row[1].startswith("0, 1, 2, ")
    assert row[1].endswith("…, 29999 (30,000 levels)")
    assert len(row[1]) < 100


def test_learning_rates_are_written_as_people_do():
    document = plan_document(make_plan({"optimizer.lr": [1e-5, 3e-4]}))
    assert [row[2] for row in all_runs(document).rows] == ["1e-5", "3e-4", "-"]
    assert all_runs(document).headers[2] == "Learning Rate"


def test_what_is_missing_comes_with_its_command():
    text = text_of(make_plan())
    missing = text.split("## Resources Verified")[1]
    assert "✗ Model 3B missing" in missing
    assert "`hf download meta-llama/Llama-3.2-3B-Instruct --local-dir" in missing
    assert "✓ Dataset capitalization" in missing
    assert "The runs are not ready" in text.split("## How to submit")[1]
    assert "p95 of the time is 26 min, the limit 25 min" in text


def test_what_happens_when_the_gpu_is_too_small_is_said():
    def said(document):
        blocks = {one.heading: one.blocks for one in sections(document, "/g")}["Configuration"]
        return next(fact.value for fact in blocks if fact.label == "Out of GPU memory")

    document = plan_document(make_plan())
    assert said(document) == "the job goes on with batch × accumulation 2 × 8, then 1 × 16"
    document = plan_document(make_plan(sizes={"batch_size": 2}))
    last = "1 × 16, then 1 × 16 with activation checkpointing"
    assert f"the job goes on with batch × accumulation {last} (1B)" in said(document)
    for run in document["runs"]:
        run.pop("rungs")  # kept from a plan that had none
    assert said(document) == "the job fails"
    for run in document["runs"]:
        run["estimated"] = []
    assert said(document) == "the job fails; trainer.max_rungs=2 would let it try smaller batches than yours"


def test_seeds_are_replicates():
    plan = make_plan({"model": ["1B", "3B"], "lora.rank": [4, 64], "seed": [1, 2, 3]})
    assert "2×2 Factorial Design, 3 replicates (seed)" in text_of(plan)
    assert "14 (12 fine-tuned + 2 controls)" in text_of(plan)


def test_one_run_without_controls():
    text = text_of(make_plan({}, controls=False))
    assert "1 (1 fine-tuned)" in text
    assert "Nothing varies" in text
    assert design_title("single run") in text


def test_evaluation_alone():
    plan = make_plan({"model": ["1B", "3B"]})
    alone = type(plan)(**(vars(plan) | {"runs": plan.of_type(RunType.control), "risks": ()}))
    assert "2 (2 controls)" in text_of(alone)
    assert "Nothing is trained" in text_of(alone)


def test_hostile_values_break_no_table_and_no_marker():
    text = text_of(make_plan({"system_prompt": [HOSTILE, "b"]}, group=HOSTILE))
    table = [line for line in text.splitlines() if line.startswith("| ")]
    bars = {len(re.findall(r"(?<!\\)\|", line)) for line in table if "Fine-tuned" in line}
    assert bars == {8}
    assert [line for line in text.splitlines() if line == RESULTS_START] == [RESULTS_START]
    assert "\x1b" not in text
    assert "\x1b" not in printed(make_plan({"system_prompt": [HOSTILE, "b"]}))


def test_results_survive_planning_again():
    old = text_of(make_plan())
    filled = old.replace(f"{RESULTS_START}\n", f"{RESULTS_START}\n## Results\n\nall good\n")
    new = text_of(make_plan({"lora.rank": [4, 8]}))
    carried = carry_results(filled, new)
    assert carried.endswith(f"{RESULTS_START}\n## Results\n\nall good\n{RESULTS_END}\n")
    assert carried.startswith(new[: new.index(RESULTS_START)])
    assert carry_results("no markers", new) == new
    assert carry_results(old, new) == new


def test_the_screen_says_what_the_readme_says():
    plan = make_plan()
    text = printed(plan)
    for heading in HEADINGS:
        assert heading.lstrip("# ") in text
    for section in sections(plan_document(plan), plan.directory):
        assert section.heading in text
    assert "Preview: nothing is written yet" in text


def test_piped_output_is_plain_and_never_cut():
    plan = make_plan({"lora.rank": [4], "dataset.name": ["x" * 50, "b"]}, directory="/out/" + "d" * 300)
    text = printed(plan)
    assert "\x1b" not in text
    assert "d" * 300 in text
    assert f"1B_rank4_name-{'x' * 50}" in text
    assert not [line for line in text.splitlines() if line != line.rstrip()]


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self):
        return True


def test_colour_on_a_terminal_unless_told_otherwise(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    assert "\x1b[31m" in printed(make_plan(), stream=Terminal())
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[31m" not in printed(make_plan(), stream=Terminal())


@pytest.mark.parametrize("width", [40, 50, 65, 75, 100])
def test_narrow_terminals_show_every_column_or_name_it(width):
    text = printed(make_plan(), width=width)
    shown = text.split("All Runs")[1].split("Resources Verified")[0]
    found = re.search(r"too narrow\s+for\s+(.*?):\s+see", shown, re.DOTALL)
    left_out = " ".join(found[1].split()).split(", ") if found else []
    table = all_runs(plan_document(make_plan()))
    assert set(left_out) <= {"Model", "LoRA Rank", "Batch Size"}
    kept = [i for i, header in enumerate(table.headers) if header not in left_out]
    wanted = "".join(row[i] for row in table.rows for i in kept)
    assert not Counter(re.sub(r"\s", "", wanted)) - Counter(shown)
    assert all(row[0] in shown for row in table.rows)
    assert bool(left_out) == (width < 75)


def test_long_lines_hang_and_what_is_typed_stays_whole():
    plan = make_plan()
    text = printed(plan, width=80)
    (command,) = [line for line in text.splitlines() if line.startswith("  Command:")]
    assert command.endswith(plan.command)
    body = [line for line in text.split("\nResources Verified\n")[1].splitlines() if line.strip()]
    assert all(line.startswith(" ") or line in {"Configuration", "Estimates", "How to submit"} for line in body[:-1])


def test_a_stream_that_knows_no_check_marks():
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    print_summary(make_plan(), stream=stream)
    text = raw.getvalue().decode("ascii")
    assert "ok Model 1B" in text
    assert "2x2 Factorial Design" in text
    assert "─" not in encodable("─ ✓", "latin-1")


def test_many_rows_are_cut_on_the_screen_only():
    plan = make_plan({"seed": list(range(100))})
    assert "41 more rows in README.md" in printed(plan)
    assert text_of(plan).count("| 1B_rank8_seed") == 200


def test_what_writing_did():
    plan = make_plan()
    diff = GroupDiff(added=("8B_rank4",), unchanged=("1B_rank4",))
    result = WriteResult(plan_document(plan), diff, written=("8B_rank4",))
    text = printed(plan, result)
    assert "+ 8B_rank4" in text
    assert f"Written to {plan.directory}" in text
    assert "Nothing changed in" in printed(plan, WriteResult(plan_document(plan), GroupDiff()))


def test_long_and_empty_levels_are_shown_so_that_tables_stay_readable():
    table = all_runs(plan_document(make_plan({"system_prompt": ["long " * 40, "", None]})))
    assert [row[2] for row in table.rows[:3]] == [("long " * 40)[:59] + "…", '""', "none"]


def test_evidence_is_listed_once_and_not_endlessly():
    lines = tuple(f"log {i}" for i in range(30))
    plan = make_plan(sizes={"evidence": lines})
    text = text_of(plan)
    assert text.count("log 3\n") == 1
    assert "… and 10 more in plan.json." in text
    assert make_sizing(1.0).evidence


def test_what_speaks_against_an_estimate_is_shown_before_other_evidence():
    caveats = ("odd.out: left out, 274% of the peak of a100-80", "oom.out: batch 8 ran out of memory on a100-80; …",
               "extrapolates: batch 64, logs have 4")  # fmt: skip
    text = text_of(make_plan(sizes={"evidence": (*(f"log {i}" for i in range(30)), *caveats)}))
    assert all(line in text for line in caveats)
    assert "log 0\n" in text
    assert "log 20\n" not in text


def test_only_commands_are_shown_as_something_to_type():
    document = plan_document(make_plan())
    lacking = {"kind": "dataset", "name": "d", "path": "/d", "status": "missing", "detail": "", "files": []}
    checks = [lacking | {"fix": "hf download x"}, lacking | {"fix": "name it with dataset.path"}]
    (section,) = (one for one in sections(document | {"verified": checks}, "/g") if one.heading == "How to submit")
    head, words, commands, *_ = section.blocks
    assert (words, commands) == (Item("name it with dataset.path"), Commands(("hf download x",)))
    assert "\n  name it with dataset.path\n" in markdown(Section("", (Item("a", "✗", words.text), head)))
    assert "\n  `hf download x`" in markdown(Section("", (Item("a", "✗", "hf download x"),)))


def test_what_will_be_made_is_no_fault():
    document = plan_document(make_plan())
    check = {"kind": "dataset", "name": "d", "path": "/d", "status": "missing", "fix": "", "files": []}
    checks = [check | {"detail": "will be made; 8 rows"}, check | {"detail": "no such file"}]
    (section,) = (one for one in sections(document | {"verified": checks}, "/g") if one.heading == "Resources Verified")
    assert [block.mark for block in section.blocks] == ["+", "✗"]


def test_reasons_for_packing_that_differ_in_figures_are_one():
    document = plan_document(make_plan({"lora.rank": [4, 8, 16]}))
    for number, run in enumerate(document["runs"]):
        run["config"] |= {"packed": False, "packed_because": f"off: {number} packs would leave too few steps"}
    assert "Packing: off; for example 0 packs would leave too few steps\n" in said_configuration(document)
    for run in document["runs"]:
        run["config"]["packed_because"] = "off: 9 packs"
    assert "Packing: off: 9 packs\n" in said_configuration(document)


def said_configuration(document):
    blocks = next(section.blocks for section in sections(document, "g") if section.heading == "Configuration")
    return "".join(f"{block.label}: {block.value}\n" for block in blocks)
