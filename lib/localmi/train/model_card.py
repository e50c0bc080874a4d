"""A model card (Mitchell et al. 2019): what whoever gets the weights must know, on one page.

Written at the end of a run beside its record, from what the run itself knows. It holds counts,
hashes and figures: no id, no sentence, no pixel and no path. Taught in 14_full_mimic_cxr.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

import localmi
from localmi.data.cache.cache import Cache
from localmi.data.splits import SPLITS
from localmi.files import write_text
from localmi.model.bert import names_a_folder
from localmi.record import MODEL_CARD, Result, keeps_record
from localmi.train.config import TrainConfig
from localmi.train.pretraining import Pretraining

USE = """\
Research on learning from images and text: a start for image classifiers, retrieval, and maps of
where a sentence looks. Not for diagnosis, triage or any decision on a patient: nobody has tested
it for that."""

LIMITS = """\
- It saw the reports of the data named above, with their habits and their mistakes. What a report
  leaves out, it has not learnt; other hospitals, views and machines were not tested.
- A bound is a lower bound: what it misses may be there. It is worth what stands beside it: above
  the control, below its cap.
- A map shows which region suits the words best, not that a finding is there.
- Figures are of one run. The intervals resample patients; another seed differs beside that."""

CREDENTIALED = """\
The data are credentialed (ids of MIMIC-CXR were found in them). Weights that were trained on them,
this model's and those made from it, fall under the same data use agreement: pass them on to nobody
who has not signed it, and publish them, if at all, where the data themselves are. No id, text,
pixel, map of an image or feature of a patient may be passed on; of this page all may."""

OPEN = """\
No ids of MIMIC-CXR were found in the data. Whether weights, texts or images may be passed on is
for the licence of the data to say: look there first."""


def write_model_card(
    training: Pretraining,
    metrics: Mapping[str, Result],
    *,
    credentialed: bool,
    run_dir: Path | str = "",
) -> str:
    """The card of what a run has trained, in Markdown; `model_card.md` in its folder.

    Args:
        training: after its last step, or where it stands.
        metrics: by name, as for `record_metrics`.
        credentialed: whether the data are (`privacy.credentialed.is_credentialed`).
        run_dir: "" keeps nothing.

    Source: Mitchell et al. 2019, https://doi.org/10.1145/3287560.3287596.
    Taught in 14_full_mimic_cxr.
    """
    config = training.config
    parts = {
        f"Model card: {config.objective} MI by {config.bound}": _model(training),
        "Data": _data(training.cache),
        "Figures": _figures(metrics),
        "Intended use": USE,
        "Limits": LIMITS,
        "What must not be shared": CREDENTIALED if credentialed else OPEN,
        "Configuration": _configuration(config),
    }
    titles = ["#", *["##"] * (len(parts) - 1)]
    card = "\n\n".join(
        f"{mark} {title}\n\n{text}"
        for mark, (title, text) in zip(titles, parts.items(), strict=True)
    )
    if str(run_dir) and keeps_record():
        write_text(card + "\n", Path(run_dir) / MODEL_CARD)
    return card


def _model(training: Pretraining) -> str:
    networks = {
        "image encoder": training.alignment.image_encoder,
        "text encoder": training.alignment.text_encoder,
        "critic": training.alignment.critic,
    }
    state = "finished" if training.step == training.config.steps else "not finished"
    config, computed = training.config, training.computed_in
    lines = {
        "version": f"localmi {localmi.__version__}",
        "steps": f"{training.step:,} of {config.steps:,} ({state}); the last one, none was chosen",
        "batch": f"{config.batch_size} images, on {_counted(training.processes.size)}",
        "computed in": ", ".join(computed.values()),
        **{name: _weights(network) for name, network in networks.items()},
    }
    return _list(lines)


def _counted(processes: int) -> str:
    return "1 process" if processes == 1 else f"{processes} processes"


def _weights(network: nn.Module) -> str:
    number = sum(weights.numel() for weights in network.parameters())
    return f"{number:,} weights"


def _data(cache: Cache) -> str:
    head = {"name": cache.name, "sha256": cache.data_hash, "image size": cache.image_size}
    rows: list[tuple[str, ...]] = [("split", "patients", "studies", "images")]
    for split in SPLITS:
        part = cache.manifest[cache.manifest["split"] == split]
        numbers = part["patient_id"].nunique(), part["study_id"].nunique(), len(part)
        rows.append((split, *(f"{number:,}" for number in numbers)))
    rejected = f"{len(cache.rejected):,} images were rejected when the data were prepared."
    return f"{_list(head)}\n\n{_table(rows)}\n\n{rejected}"


def _figures(metrics: Mapping[str, Result]) -> str:
    if not metrics:
        return "None was measured."
    rows: list[tuple[str, ...]] = [
        ("figure", "value", "95 % interval over patients", "split", "beside it")
    ]
    for name, result in metrics.items():
        found = result.interval
        beside = (
            f"{word} {round(value, 4) + 0.0:.3g}"
            for word, value in result.beside.items()
            if value is not None
        )
        value, low, high = (f"{_rounded(one):.2f}" for one in (found.value, found.low, found.high))
        rows.append((name, value, f"{low} to {high}", result.split, ", ".join(beside)))
    return _table(rows)


def _rounded(value: float) -> float:
    """To two decimals, and no -0."""
    return round(value, 2) + 0.0


def _configuration(config: TrainConfig) -> str:
    """All fields; of a text encoder in a folder its name alone."""
    fields = config.as_record()
    fields |= {"text_encoder": _without_folders(config.text_encoder)}
    return _list({f"`{name}`": value for name, value in fields.items()})


def _without_folders(name: str) -> str:
    """The name of a folder of this machine; a name on the hub has one slash, and stays."""
    return Path(name).expanduser().name if names_a_folder(name) else name


def _list(lines: Mapping[str, Any]) -> str:
    return "\n".join(f"- {name}: {value}" for name, value in lines.items())


def _table(rows: Sequence[tuple[str, ...]]) -> str:
    head, *body = (f"| {' | '.join(row)} |" for row in rows)
    return "\n".join([head, "|" + "---|" * len(rows[0]), *body])
