"""What the figures of a report show, in words: numbers in, sentences out.

A sentence never says more than its numbers: a difference within the interval is called none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gainakt.evaluation.calibration import Calibration
from gainakt.evaluation.certainty import Mastery
from gainakt.evaluation.explanation import ExplainedPrediction
from gainakt.record.folder import COMPLETED, INTERRUPTED, RUNNING
from gainakt.report.asking import Students
from gainakt.report.material import Epochs, Material, Skill, Split
from gainakt.report.students import StudentTrace

OF_SPLIT = {"valid": "validation", "test": "test"}
# What stands where there is no number, and before one under zero.
NONE, MINUS = "\N{EN DASH}", "\N{MINUS SIGN}"
# Draws of chance behind an interval.
SAMPLES = 1000
# A change of AUC under this is not worth a word.
NOTICEABLE = 0.001
# A skill with fewer answers says little about how hard it is.
ENOUGH_ANSWERS = 50


def number(value: float | None, digits: int = 3) -> str:
    """Spell a number with its decimals; nothing where there is none."""
    if value is None or value != value:
        return NONE
    return _with_minus(f"{value:.{digits}f}")


def _with_minus(text: str) -> str:
    """A true minus, and none before zero."""
    return text.replace("-", MINUS if text.strip("-+0.%") else "")


def short(name: str, limit: int = 60) -> str:
    """Cut a name that would fill a sentence."""
    return name if len(name) <= limit else name[: limit - 1] + "…"


def percent(share: float) -> str:
    """Spell a share for people."""
    return f"{share:.1%}"


def signed(value: float, form: str = ".3f") -> str:
    """Spell a number with its sign, a true minus where it is negative."""
    return _with_minus(f"{value:+{form}}")


def setting(value: Any) -> str:
    """Spell the value of a parameter; of a hash its beginning."""
    if value is None:
        return NONE
    if isinstance(value, list | tuple):
        return " ".join(map(str, value))
    text = str(value)
    if isinstance(value, bool):
        return text.lower()
    return text[:12] + "…" if len(text) == 64 and text.isalnum() else text


def counted(count: int, what: str) -> str:
    """Spell a number of things."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def listed(words: Sequence[str]) -> str:
    """Join words as a sentence does."""
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def lead(m: Material) -> str:
    """Say in a sentence what the run has reached."""
    best = m.results["best"]
    return (
        f"After epoch {best['epoch']} of {len(m.epochs)}, the model puts the right answers of "
        "students it has not learnt from above their wrong ones with AUC "
        f"{number(best['val_auc'])}: 0.5 would be guessing, 1 would be perfect."
    )


def standing(m: Material) -> str:
    """Say that a run is not complete, and how to go on; nothing where it is."""
    status = m.results["status"]
    if status == COMPLETED:
        return ""
    why = m.results.get("reason") or {
        RUNNING: "it still trains, or was killed",
        INTERRUPTED: "it was stopped",
    }.get(status, "no reason was recorded")
    return (
        f"This run is {status} after {counted(len(m.epochs), 'epoch')} ({why}). All below is about "
        f"what it had reached by then; gainakt resume {m.folder.path.name} goes on."
    )


def trust(m: Material) -> str:
    """Say how the ten checks came out."""
    failed = [check for check in m.checks if not check.passed]
    if not failed:
        return f"All {len(m.checks)} checks pass"
    return f"{len(failed)} of {len(m.checks)} checks failed"


def baseline(split: Split) -> str:
    """Say what accuracy costs nothing."""
    usual = "right" if split.share_right >= 0.5 else "wrong"
    reach = max(split.share_right, 1 - split.share_right)
    return f"always expecting “{usual}” would reach {percent(reach)}"


def accuracy_curve(epochs: Epochs, best: int) -> str:
    """Say when validation AUC was best and what came of it afterwards."""
    auc = {int(row["epoch"] or 0): row["val_auc"] or 0.0 for row in epochs}
    last = max(auc)
    if last == 1:
        return "A single epoch: there is no curve to read yet."
    if best == last:
        return (
            f"The last epoch is the best one: validation AUC rose from {number(auc[1])} to "
            f"{number(auc[last])}, and more epochs might still help."
        )
    fall = auc[best] - auc[last]
    train = {int(row["epoch"] or 0): row["train_auc"] or 0.0 for row in epochs}
    rises = train[last] - train[best]
    if fall < NOTICEABLE:
        return f"Best after epoch {best}; afterwards validation AUC stays level."
    memorises = (
        f" while training AUC rises by {number(rises)}: the model begins to memorise its students"
        if rises >= NOTICEABLE
        else ""
    )
    return f"Best after epoch {best}; afterwards validation AUC falls by {number(fall)}{memorises}."


def loss_curve(epochs: Epochs, softened: bool) -> str:
    """Say how the prediction loss moved."""
    first, last = epochs[0], epochs[-1]
    lowest = min(epochs, key=lambda row: row["val_loss"] or 0.0)
    said = (
        f"Prediction loss (log loss) of validation students: lowest after epoch "
        f"{lowest['epoch']:.0f} with {number(lowest['val_loss'])}"
    )
    if len(epochs) > 1:
        said += f", {number(first['val_loss'])} at first and {number(last['val_loss'])} at last"
    if softened:
        said += (
            ". In training the answers are softened by teachers, so the two lines lie apart for "
            "that reason too"
        )
    return said + "."


def loss_shares(epochs: Epochs, terms: Sequence[str]) -> str:
    """Say what training spent its effort on in the last epoch."""
    last = epochs[-1]
    shares = {term: last.get(f"{term}_loss_share") or 0.0 for term in terms}
    costs = [
        f"{term} {percent(share)}"
        for term, share in sorted(shares.items(), key=lambda pair: -pair[1])
        if share > 0
    ]
    rewards = [f"{term} {signed(share, '.1%')}" for term, share in shares.items() if share < 0]
    said = f"In epoch {last['epoch']:.0f} the loss is made of {listed(costs)}"
    if rewards:
        said += f"; rewards, drawn below zero, are {listed(rewards)}"
    return said + ". “main” is the prediction itself."


def calibration(splits: Sequence[Split]) -> str:
    """Say how far stated probabilities are off."""
    errors = []
    for s in splits:
        error = Calibration(s.answer, s.probability).corrected(s.student, SAMPLES, seed=0)
        errors.append(
            f"{error.value * 100:.1f} percentage points on average (95% interval "
            f"{error.low * 100:.1f} to {error.high * 100:.1f}) "
            f"among {s.metrics['targets']:,} answers of {OF_SPLIT[s.name]} students"
        )
    return (
        f"A stated probability is off by {listed(errors)} (expected calibration error, less what "
        "chance adds to it). Each dot is a tenth of the predictions; on the dashed line, “70%” "
        "would come true in 70% of the cases."
    )


def roc(splits: Sequence[Split]) -> str:
    """Say what the AUC means."""
    shares = [
        f"{percent(s.metrics['auc'])} of the cases among {OF_SPLIT[s.name]} students (AUC "
        f"{number(s.metrics['auc'])})"
        for s in splits
    ]
    return (
        "Given one answer that was right and one that was wrong, the model rates the right one "
        f"higher in {listed(shares)}. The dashed line is guessing."
    )


def correlations(consistency: Mapping[str, Any]) -> str:
    """Say whether mastery and gains go with the next answer beyond what a clock does."""
    clock = consistency["clock_correlation"]
    said = []
    for name in ("mastery", "gain"):
        value = consistency[f"{name}_correlation"]
        if value is not None:
            interval = consistency[f"{name}_correlation_interval"]
            beyond = consistency.get(f"{name}_minus_clock_interval")
            said.append(f"{name.capitalize()} {_beside(value, interval, clock, beyond)}")
    counted_ones = consistency.get("students_with_mastery_correlation")
    with_one = "" if counted_ones is None else f", {counted_ones:,} of whom have a correlation"
    measured = f"measured on {consistency['students']:,} validation students{with_one}"
    return (
        f"{'; '.join(said)} ({measured}). The clock is the bare number of the answer: only what "
        "lies above it speaks about the student, the rest comes with the passing of time."
    )


def _beside(
    value: float,
    interval: Sequence[float] | None,
    clock: float | None,
    beyond: Sequence[float] | None,
) -> str:
    """Judge by the interval of the difference, student by student, where there is one."""
    said = f"goes with the next answer at correlation {signed(value)}"
    if interval is None or clock is None:
        return said
    low, high = beyond or (bound - clock for bound in interval)
    if low > 0:
        return f"{said}, above the clock's {signed(clock)}"
    if high < 0:
        return f"{said}, below the clock's {signed(clock)}"
    return f"{said}, no different from the clock's {signed(clock)} within its interval"


def violations(consistency: Mapping[str, Any]) -> str:
    """Say how often mastery and gains break the rules that they should keep."""
    rates = {
        "mastery falls at some answer for": consistency["monotonicity_violation_rate"],
        "a gain is negative for": consistency["negative_gain_rate"],
        "mastery leaves 0 to 1 for": consistency["bounds_violation_rate"],
    }
    broken = [f"{what} {percent(rate)} of them" for what, rate in rates.items() if rate]
    if not broken:
        return "For no student does mastery fall, a gain go negative, or mastery leave 0 to 1."
    return f"{consistency['students']:,} validation students: {listed(broken)}."


def skills(found: Sequence[Skill], split: Split) -> str:
    """Say which skills are hard, and which are hard to predict."""
    known = [skill for skill in found if skill.answers >= ENOUGH_ANSWERS]
    whose = f"{counted(len(found), 'skill')}, answered by {OF_SPLIT[split.name]} students"
    if len(known) < 2:
        return f"{whose}; too few answers to say which is hard."
    hardest, easiest = (pick(known, key=lambda skill: skill.share_right) for pick in (min, max))
    said = (
        f"{whose}. Hardest is {short(hardest.skill)} with {percent(hardest.share_right)} right, "
        f"easiest {short(easiest.skill)} with {percent(easiest.share_right)}"
    )
    rated = [skill for skill in known if skill.auc == skill.auc]
    if rated:
        least = min(rated, key=lambda skill: skill.auc)
        said += f"; AUC is lowest for {short(least.skill)} with {number(least.auc)}"
    return f"{said}, among those with at least {ENOUGH_ANSWERS} answers."


def students(found: Students) -> str:
    """Say how the students were chosen, so that nobody takes them for the best looking."""
    how = {3: "lowest, the middle and the highest", 2: "lowest and the highest"}
    share = how.get(len(found.traces), "only")
    return (
        "The fuller a cell, the higher the mastery that the model states after that answer. A dot "
        "is a right answer, a cross a wrong one. The students were chosen by rule, not by looks: "
        f"those with the {share} share of right answers among histories that fit the page."
    )


def mastered(found: Mapping[str, Mastery]) -> str:
    """Say what is mastered, and how to read how sure that is."""
    best, least = (pick(found, key=lambda skill: found[skill].value) for pick in (max, min))
    said = (
        "A point is the probability of a right answer to a typical question on the skill, a line "
        "where it lies for nine in ten students with such a past; few answers, a long line. "
    )
    if len(found) == 1:
        return said + f"{short(best)}: {percent(found[best].value)}."
    return (
        f"{said}Highest is {short(best)} ({percent(found[best].value)}, from "
        f"{counted(found[best].answers, 'answer')}), lowest {short(least)} "
        f"({percent(found[least].value)}, from {counted(found[least].answers, 'answer')})."
    )


def trace(found: StudentTrace) -> str:
    """Say how a student did and where mastery ended."""
    right = int(found.right.sum())
    said = f"{right} of {len(found.right)} answers right."
    last = found.mastery[-1]
    if len(last) < 2:
        return said
    high, low = int(last.argmax()), int(last.argmin())
    if last[high] - last[low] < 0.01:
        return f"{said} In the end mastery is {number(last[high], 2)} for every skill shown."
    return (
        f"{said} In the end mastery is highest for {short(found.skills[high])} "
        f"({number(last[high], 2)}) and lowest for {short(found.skills[low])} "
        f"({number(last[low], 2)})."
    )


def explanation(e: ExplainedPrediction) -> str:
    """Tell a prediction as a teacher would ask for it."""
    came = "" if e.right is None else f"; the answer was {_spelt(e.right)}"
    said = (
        f"Before answer {e.step} of student {e.student}, to skill {short(e.skill)}, the model "
        f"expected a right answer with {percent(e.probability)}{came}."
    )
    if e.low is not None and e.high is not None:
        said += (
            f" Of students with such a past, nine in ten answer right between {percent(e.low)} and "
            f"{percent(e.high)} of the time."
        )
    if not e.is_sum:
        return (
            f"{said} What it states of mastery and gain stands beside the prediction, which is not "
            "made of them: it does not explain it."
        )
    assert e.prior is not None
    total = e.logit - e.prior
    strongest = e.strongest_first[0]
    return (
        f"{said} In log-odds that is {signed(e.logit, '.2f')}, exactly the sum of "
        f"{signed(e.prior, '.2f')} to start with and {signed(total, '.2f')} from "
        f"{counted(len(e.past), 'past answer')}. Strongest was answer {strongest.step}, "
        f"{_spelt(strongest.right)} on {short(strongest.skill)} "
        f"({signed(strongest.contribution or 0.0, '.2f')}). Framed answers are to the skill in "
        "question."
    )


def _spelt(right: bool) -> str:
    return "right" if right else "wrong"


def estimate(found: Mapping[str, Any] | None, with_interval: bool) -> str:
    """Spell a measure of interpretability, with its interval where asked for."""
    if found is None or found["value"] is None:
        return NONE
    value = found["value"]
    said = f"{value:.1e}" if value and abs(value) < 5e-4 else f"{value:.3f}"
    if with_interval and found["low"] is not None:
        said += f" [{found['low']:.3f}, {found['high']:.3f}]"
    return said
