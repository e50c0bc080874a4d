"""What a cache holds, and what it does not and why: report.json and report.txt, beside the images.

Without paths and times, so that the same data give the same bytes on any machine.
Taught in 13_preparing_mimic_cxr.
"""

from pathlib import Path
from typing import Any

import pandas as pd

from localmi.data.labels import (
    CODES,
    FINDINGS,
    POLICIES,
    class_counts,
    count_report,
    foreign_labels,
)
from localmi.data.sources.pairs import Pairs
from localmi.data.splits import SPLITS
from localmi.data.tables import advice, counted, examples
from localmi.files import write_json, write_text

JSON, TEXT = FILES = ("report.json", "report.txt")


def make_report(
    pairs: Pairs,
    manifest: pd.DataFrame,
    sentences: pd.DataFrame,
    rejected: pd.DataFrame,
    plan: dict[str, Any],
    data_hash: str,
) -> dict[str, Any]:
    """The report of a cache.

    Args:
        pairs: what it was made from.
        manifest, sentences, rejected, data_hash: as in `cache.Cache`.
        plan: the settings.

    Returns:
        What can be written as JSON, and "counts", for a reader. "labels" has none of the columns
        with other values than CheXpert's, which "counts" then names.
    """
    splits = {
        split: _numbers(rows)
        for split in SPLITS
        if len(rows := manifest[manifest["split"] == split])
    }
    labels, counts = _counts(manifest)
    groups = rejected.groupby("reason", sort=True)["image_id"]
    return {
        "name": pairs.name,
        "image_size": plan["image_size"],
        "sections": plan["use"],
        "leaks": plan["leaks"],
        "data_hash": data_hash,
        **_numbers(manifest),
        "sentences": len(sentences),
        "sentences_by_section": sentences["section"].value_counts().sort_index().to_dict(),
        "splits": splits,
        "labels": labels,
        "rejected": {reason: len(group) for reason, group in groups},
        "rejected_examples": {reason: examples(group) for reason, group in groups},
        "left_out": dict(sorted(pairs.left_out.items())),
        "notes": list(pairs.notes),
        "counts": counts,
    }


def _numbers(manifest: pd.DataFrame) -> dict[str, Any]:
    views = manifest["view"].replace("", "unknown").value_counts().sort_index()
    return {
        "images": len(manifest),
        "studies": manifest["study_id"].nunique(),
        "patients": manifest["patient_id"].nunique(),
        "views": {str(view): int(count) for view, count in views.items()},
    }


def _counts(manifest: pd.DataFrame) -> tuple[dict[str, Any], str]:
    """(counts by policy, the same for a reader)"""
    text = count_report(manifest)
    if foreign := foreign_labels(manifest):
        parts = [
            f"{name} ({examples(wrong.drop_duplicates())})" for name, wrong in foreign.items()
        ]
        text += "\n\nThese labels are not those of CheXpert, and are not counted: "
        text += f"{', '.join(parts)}. {CODES}"
        manifest = manifest.drop(columns=list(foreign))
    policies = POLICIES if set(FINDINGS) & set(manifest) else ()
    return {name: class_counts(manifest, name).to_dict("records") for name in policies}, text


def write_report(report: dict[str, Any], folder: Path) -> None:
    """Writes both files."""
    write_json({name: value for name, value in report.items() if name != "counts"}, folder / JSON)
    write_text(report_text(report) + "\n", folder / TEXT)


def report_text(report: dict[str, Any]) -> str:
    """The report for a reader."""
    lines = [
        f"{report['name']}: {counted(report['images'], 'image')} of "
        f"{counted(report['studies'], 'study')} and {counted(report['patients'], 'patient')}, "
        f"{counted(report['sentences'], 'sentence')}, at {report['image_size']} pixels. "
        f"Data {report['data_hash'][:12]}.",
        _by_section(report["sentences_by_section"]),
        "",
        report["counts"],
        "",
        _listed("Rejected", report["rejected"], report["rejected_examples"]),
        _listed("Not asked for", report["left_out"], {}),
    ]
    return "\n".join([*lines, *(f"Note: {note}" for note in report["notes"])])


def _by_section(counts: dict[str, int]) -> str:
    if not counts:
        return "No reports: images and labels alone."
    names = {"full_report": "whole reports in which no header is known"}
    parts = [f"{n:,} of {names.get(name, name.replace('_', ' '))}" for name, n in counts.items()]
    return f"Sentences by section: {', '.join(parts)}."


def _listed(title: str, counts: dict[str, int], shown: dict[str, str]) -> str:
    """A line a reason, the most frequent first."""
    lines = [f"{title}: {counted(sum(counts.values()), 'image')}"]
    for reason, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        which = f" ({shown[reason]}): {advice(reason)}" if reason in shown else ""
        lines.append(f"  {count:,} {reason}{which}")
    return "\n".join(lines)
