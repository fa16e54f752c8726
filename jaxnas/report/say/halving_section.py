"""What a report says of evaluations that were cut short."""

from jaxnas.report.read.compare import Study
from jaxnas.report.say.cells import Table
from jaxnas.report.say.text import number


def table(study: Study) -> Table | None:
    """Returns what each method evaluated at each fidelity, and what that saved.

    None where no method of the study halved.
    """
    rows, settings = [], None
    for method in study.methods:
        asked = method.run.provenance.get("evaluations")
        found = asked.get("halving") if isinstance(asked, dict) else None
        if not found:
            continue
        settings = method.run.config.get("halving") or {}
        counts = [f"{rung['evaluations']:,}" for rung in found["rungs"]]
        seconds = [found[name] for name in ("seconds", "saved_seconds")]
        plain = ["not measured" if s is None else number(s, 0) for s in seconds]
        shares = (number(found["equivalents"], 1), number(found["saved"], 1))
        rows.append(
            (method.name, f"{found['architectures']:,}", ", ".join(counts), *shares, *plain)
        )
    if settings is None:
        return None
    kind = {
        "successive": "successive halving",
        "hyperband": "Hyperband",
        "extrapolated": "extrapolation",
    }
    how = kind.get(str(settings.get("kind")), "halving")
    return Table(
        f"Evaluations cut short by {how}, eta {settings.get('eta', 0):g}",
        (
            "method", "architectures", "evaluations, cheap to full",
            "worth full evaluations", "saved", "seconds", "seconds saved, about",
        ),
        tuple(rows),
        "Distinct ones, over all controllers. Worth: the effort of all evaluations, that "
        "of a full one being 1; saved: against a full evaluation of every architecture, in "
        "seconds by the median time of a full one. What was stopped early counts as a "
        "query and is never among the best.",
        left=(0, 2),
    )  # fmt: skip
