"""The interview as it is held: questions go out, answers are verified, the plan is shown and, if approved, written."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Protocol

from runplan import app
from runplan.action_keys import plan_command
from runplan.ask import interview
from runplan.ask.flow import CHANGE, QUANTISE, QUANTISED, STOP, SUBMIT, WRITE
from runplan.ask.known import Known
from runplan.ask.lines import Answer, override_lines
from runplan.ask.places import ELSEWHERE, PLACES, evaluation_is_open
from runplan.ask.plain import say
from runplan.ask.prompt import Prompt, prompt_of
from runplan.ask.questions import Choice, Kind, Question, State
from runplan.ask.settings import OTHER
from runplan.ask.survey import Survey
from runplan.ask.typed import NotUnderstood
from runplan.errors import ConfigError, PlanError, RunplanError
from runplan.facts import Status
from runplan.group import make_group, preview
from runplan.pasting import pasted
from runplan.plan import TO_BE_MADE

if TYPE_CHECKING:
    from runplan.plan import Check, Plan

MARKS = {Status.ok: "✓", Status.missing: "✗", Status.invalid: "✗", Status.unchecked: "?"}
VERIFIED_AFTER = frozenset({"site", *PLACES, *PLACES.values()})
"""Questions whose answers name things that may be missing."""
STEERING = frozenset({"vary", "more"})
"""Questions whose answers set nothing."""


class Asker(Protocol):
    """Whatever puts a question to someone."""

    help: str

    def ask(self, prompt: Prompt) -> Answer | None:
        """The answer; None to go back."""


def _will_be_ready(plan: Plan) -> bool:
    """Whether nothing is missing but what writing the plan makes."""
    from runplan.read.gather import WILL_BE_MADE  # noqa: PLC0415 - start-up time

    return all(check.fix == WILL_BE_MADE.fix for check in plan.lacking)


class Dialogue:
    """One interview, from the answers that are given to a group that is written."""

    def __init__(self, survey: Survey, state: State) -> None:
        """Hold what is given against the schema, and look around.

        Raises:
            ConfigError: everything that is wrong with what is given, and with the user's config files.
        """
        self._survey = survey
        self._state = state
        self._said: set[Check] = set()
        self._unverified = False
        read = survey.with_files(Known(), state.answers.get("dataset", ()))
        survey.composed(override_lines(state.answers, read))
        self._known = self._look_around()

    def take_defaults(self) -> int:
        """Plan and write with what is given and defaults for the rest; returns the exit code."""
        while (question := self._next()) is not None:
            self._answer(question, question.default(self._state, self._known))
        lines = self._lines(self._state)
        code = app.plan(lines, self._survey.config_dir)
        self._say_command(lines)
        return code

    def hold(self, asker: Asker) -> int:
        """Ask until the plan is approved or the user stops; returns the exit code.

        Raises:
            KeyboardInterrupt: the user stopped; nothing was written.
        """
        try:
            say(f"A few questions, then the whole plan to approve. {asker.help}")
            self._say_given()
            lines, action = self._until_approved(asker)
        except KeyboardInterrupt:
            say()
            say("Stopped: nothing was written.")
            self._say_answers()
            raise
        if action == STOP:
            self._say_command(lines, "Nothing was written. This plans the same:")
            return 0
        code = app.plan(
            [*lines, *(["submit=sbatch"] if action == SUBMIT else [])], self._survey.config_dir, summary=False
        )
        self._say_command(lines)
        return code

    def _say_given(self) -> None:
        """What will not be asked: the site that holds, and given answers."""
        if not self._known.own_sites:
            say(f"Site: {self._known.place}", "  ")
        if self._state.given:
            say(f"Given: {pasted(override_lines(self._state.answers, self._known))}")

    def _until_approved(self, asker: Asker) -> tuple[list[str], str]:
        while True:
            self._ask_all(asker)
            lines = self._lines(self._state)
            action = asker.ask(self._approval(self._show(lines)))
            if action is None:
                self._state = interview.back(self._state, "")
            elif action[0] == QUANTISE:
                self._state = interview.quantised(self._state)
            elif action[0] == CHANGE:
                self._change(asker)
            else:
                return lines, action[0]

    def _ask_all(self, asker: Asker) -> None:
        while (question := self._next()) is not None:
            if self._unverified and question.key not in PLACES.values():  # what was just chosen is there, or is not
                self._verify()
            prompt = prompt_of(question, self._state, self._known, partial(self._refused, question))
            answer = asker.ask(prompt)
            if answer is not None:
                self._answer(question, answer)
            elif not self._state.asked and question.key not in self._state.wanted:
                say("  This is the first question; Ctrl-C stops.")
            else:
                self._state = interview.back(self._state, question.key)

    def _next(self) -> Question | None:
        """The next question; things are verified once all that are asked for one after the other are answered."""
        question = interview.next_question(self._state, self._known)
        if self._unverified and (question is None or question.key not in VERIFIED_AFTER):
            self._verify()
            question = interview.next_question(self._state, self._known)
        return question

    def _answer(self, question: Question, answer: Answer) -> None:
        self._state = interview.answered(question, answer, self._state, self._known)
        if question.key == "site":
            self._known = replace(self._look_around(), own_sites=self._known.own_sites)
        self._known = self._survey.with_files(self._known, self._state.answers.get("dataset", ()))
        self._unverified = self._unverified or question.key in VERIFIED_AFTER

    def _look_around(self) -> Known:
        """What there is to choose from and what holds, on the site that is chosen and with keys that are not asked."""
        answers = {key: self._state.answers.get(key, ()) for key in ("site", OTHER)}
        known = self._survey.known(override_lines(answers, Known()))
        return self._survey.with_files(known, self._state.answers.get("dataset", ()))

    def _verify(self) -> None:
        """Look at what the answers name, and say what was not said yet."""
        self._unverified = False
        answered = {each for each in ("model", "dataset", "evaluation") if self._state.has(each)}
        if "dataset" in answered and not evaluation_is_open(self._state, self._known):
            answered.add("evaluation")
        try:
            checks = self._survey.checks(self._lines(self._state)) if answered else ()
        except RunplanError as error:  # said again, with all else that is wrong, where the plan is shown
            say(f"  {MARKS[Status.invalid]} {error}", "    ")
            checks = ()
        self._known = replace(self._known, checks=tuple(check for check in checks if check.kind in answered))
        for check in self._known.checks:
            if check not in self._said:
                self._said.add(check)
                state = "" if check.status is Status.ok else f" {check.status.value}"
                detail = f" ({check.detail})" if check.detail else ""
                mark = "+" if check.detail.startswith(TO_BE_MADE) else MARKS[check.status]
                say(f"  {mark} {check.kind.title()} {check.name}{state}: {check.path}{detail}", "    ")
                if check.fix and check.status is not Status.ok:
                    print(f"      {check.fix}")  # noqa: T201 - to be copied: nothing is broken in it

    def _refused(self, question: Question, answer: Answer) -> str:
        """Why an answer cannot be taken: by the question itself, else by the schema."""
        try:
            state = interview.answered(question, answer, self._state, self._known)
            if question.key not in STEERING:
                known = self._survey.with_files(self._known, state.answers.get("dataset", ()))
                self._survey.composed(self._lines(state, known))
        except NotUnderstood as error:
            return str(error)
        except ConfigError as error:
            return "; ".join(f"{problem.what}; {problem.fix}" if problem.fix else problem.what
                             for problem in error.problems)  # fmt: skip
        return ""

    def _lines(self, state: State, known: Known | None = None) -> list[str]:
        known = known or self._known
        return override_lines(interview.final_answers(state, known), known)

    def _show(self, lines: Sequence[str]) -> Plan | RunplanError:
        """Print what a preview prints; if it cannot be planned, what is wrong is said and comes back."""
        try:
            sweep = self._survey.composed(lines)
            plan = make_group(sweep.composed, sweep.command, sweep.experiment, sweep.directory, may_create=False)
            preview(plan, sweep.composed[0].config)
        except RunplanError as error:
            print(f"\n{error}", file=sys.stderr)  # noqa: T201 - as the command line says it
            return error
        return plan

    def _approval(self, plan: Plan | RunplanError) -> Prompt:
        change, stop = Choice(CHANGE, "change an answer"), Choice(STOP, "stop", "nothing is written")
        if isinstance(plan, RunplanError):
            fits = [Choice(QUANTISE, "hold base models in 4 bits (QLoRA)", "then they fit")] * self._would_fit(plan)
            choices = (change, *fits, stop)
            return Prompt("This cannot be planned. What now?", Kind.one, (CHANGE,), choices)
        submit = [Choice(SUBMIT, "write and submit")] * (self._known.can_submit and _will_be_ready(plan))
        choices = (Choice(WRITE, "write the files"), *submit, change, stop)
        return Prompt("Is this the plan?", Kind.one, (WRITE,), choices)

    def _would_fit(self, error: RunplanError) -> bool:
        """Whether 4 bits are among what would help each run that cannot be planned, and are not answered already."""
        problems = error.problems if isinstance(error, PlanError) else ()
        helps = bool(problems) and all(f"{QUANTISED}=true" in problem.fix for problem in problems)
        return helps and not self._state.has(QUANTISED)

    def _change(self, asker: Asker) -> None:
        rows = interview.settled(self._state, self._known)
        choices = [Choice(key, text, now) for key, text, now in rows]
        choices.append(Choice("more", "anything else"))
        key = asker.ask(Prompt("Which answer?", Kind.one, (choices[0].value,), tuple(choices)))
        if key is not None:
            self._state = interview.changed(self._state, key[0])

    def _say_answers(self) -> None:
        """How to go on later without giving the same answers again."""
        answers = {key: levels for key, levels in self._state.answers.items() if ELSEWHERE not in levels}
        if self._state.asked and (lines := override_lines(answers, self._known)):
            say("With these answers already given:")
            print(f"  python -m runplan ask {pasted(lines)}")  # noqa: T201 - to be copied: nothing is broken in it

    def _say_command(self, lines: Sequence[str], heading: str = "The same plan again:") -> None:
        command = plan_command(self._survey.composed(lines).command)
        say()
        say(heading)
        print(f"  python -m runplan -m {command}")  # noqa: T201 - same
