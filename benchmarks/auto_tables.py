"""The tables of docs/methods.md about `rb.Auto`, from benchmarks/results/."""

from __future__ import annotations

from typing import Any

from benchmarks import record
from benchmarks.blends import SHARES, judged
from benchmarks.markdown import heads
from benchmarks.method_tables import NETWORKS, OLDER, footnote, measured, older_commits
from benchmarks.methods import accuracies
from rheobase.intervals import wilson

__all__ = ["auto", "blends", "constraints"]


def constraints() -> str:
    """What `Auto` takes for a constraint, and what that reaches."""
    if not record.has("constraints"):
        return "Not measured yet: `python -m benchmarks.constraints`."
    result = record.read("constraints")
    titles = ["asked", "taken", "T", "points below the ANN", "agreement %", "events a neuron", "all took"]
    lines = heads(titles)
    for row in result["rows"]:
        drop = 100 * (row["reference_accuracy"] - row["accuracy"])
        warned = "" if row["met"] else " (with a warning)"
        warned += OLDER if row.get("older") else ""
        lines.append(f"| `{row['asked']}` | `{row['taken']}`{warned} | {row['steps']} | {drop:.2f} | "
                     f"{100 * row['agreement']:.1f} | {row['events_per_neuron']:.2f} | "
                     f"{row['seconds']:.0f} s |")  # fmt: skip
    before = older_commits({"cell": row} for row in result["rows"])
    rule = f" {OLDER.strip()} at commit {before}, with its rule of choice." if before else ""
    return "\n".join([*lines, "", footnote(result, result["rows"][0]) + rule])


def auto() -> str:
    """`Auto` for T steps beside the most accurate other method with the same spikes at that T."""
    titles = ["network", "spikes", "T", "`Auto` %", "the best other one %", "which is"]
    lines = heads(titles)
    shown: list[dict[str, Any]] = []
    behind, count, most = [], 0, 0.0
    for network, title in NETWORKS.items():
        result = measured(network) or {"methods": []}
        rows = result["methods"]
        for own in (row for row in rows if row["name"] == "Auto"):
            alike = [row for row in rows if row["group"] == own["group"] and row is not own]
            shown.append(own)
            mark = OLDER if older_commits([own]) else ""
            for steps, accuracy in accuracies(own).items():
                others = [(found[steps], row["name"]) for row in alike if steps in (found := accuracies(row))]
                best = max(others, default=None)
                words = f"{100 * best[0]:.1f} | {best[1]}" if best else " | "
                count += best is not None
                most = max(most, best[0] - accuracy) if best else most
                if best and accuracy < wilson(best[0], result["images"])[0]:
                    behind.append(f"{own['group']} at T = {steps} on {title} ({100 * (best[0] - accuracy):.2f} points)")
                lines.append(f"| {title} | {own['group']} | {steps} | {100 * accuracy:.1f}{mark} | {words} |")
    before = older_commits(shown)
    about = (
        f"`Auto` is at most {100 * most:.2f} points below the best other one, and in {count - len(behind)} of {count} "
    )
    about += "rows within its 95 % interval, or above it"
    about += f"; below it: {', '.join(behind)}." if behind else "."
    about += f" {OLDER.strip()} in part at commits {before}, with their rule of choice." if before else ""
    return "\n".join([*lines, "", about])


def blends() -> str:
    """How much nearer blends of held-out samples are to test images than the samples themselves."""
    if not record.has("blends"):
        return "Not measured yet: `python -m benchmarks.blends`."
    result = record.read("blends")
    titles = ["network", "methods", *(f"{100 * share:g} % of another" for share in SHARES)]
    lines = heads(titles)
    for network, apart in judged(result["rows"]).items():
        count = sum(row["network"] == network for row in result["rows"])
        lines.append(f"| {NETWORKS.get(network, network)} | {count} | {' | '.join(f'{100 * a:+.1f}' for a in apart)} |")
    about = (
        "Points of agreement with the ANN on images held out of the calibration, above that on test images: the mean "
        f"over the methods. {result['rows'][0]['held_out']} held-out images, test images as in the tables above. "
        f"`{result['command']}`."
    )
    return "\n".join([*lines, "", about])
