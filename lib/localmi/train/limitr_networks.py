"""The networks of LIMITR and what they say of a split: scores, held-out bounds, maps."""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from localmi.data.augment import Augmentation
from localmi.data.batches import SplitData, normalise
from localmi.data.cache.cache import Cache
from localmi.data.views import ViewData
from localmi.errors import ConfigError, DataError
from localmi.evaluate.held_out import SplitResult, SplitScores, held_out_bound
from localmi.model.image import ImageEncoder
from localmi.model.limitr import GAMMA_SCORES, masked_mean
from localmi.model.limitr_head import LimitrHead, View
from localmi.model.words import Words
from localmi.names import Lateral, Split
from localmi.train.device import autocast
from localmi.train.limitr_config import LimitrConfig
from localmi.train.training_run import TrainingRun, in_parts
from localmi.train.words import WordTable

LOCAL, WHOLE, BOTH = "local", "whole", "both"
TEXTS_AT_ONCE = 64  # in a look


@dataclass(frozen=True)
class LimitrScoresOfSplit:
    """Scores of every image of a split with every distinct text of it, [n, T] float32 in (-1, 1).

    local: the mean of the score by the text's words and of that by the image's regions.
    whole: the cosine of whole image and whole text.
    both: their mean, which the public code ranks by. None where a part is not trained.
    """

    local: Tensor | None
    whole: Tensor | None

    @property
    def both(self) -> Tensor:
        there = [part for part in (self.local, self.whole) if part is not None]
        return torch.stack(there).mean(dim=0)

    def by_name(self) -> dict[str, Tensor]:
        """Those that there are."""
        found = {LOCAL: self.local, WHOLE: self.whole, BOTH: self.both}
        return {name: part for name, part in found.items() if part is not None}


class LimitrNetworks(TrainingRun):
    """Encoders and head of a configuration, on a device.

    Attributes: as `TrainingRun`, and
        image_encoder: of the frontal view. lateral_encoder: of the other; None without one.
        text_encoder, head.
        control: a second head of the same build, for the shuffled pairs.

    Raises:
        ConfigError: several processes, which this method has not.
    """

    config: LimitrConfig

    def __init__(self, config: LimitrConfig, cache: Cache) -> None:
        super().__init__(config, cache)
        if self.processes.size > 1:
            raise ConfigError(
                f"{self.processes.size} processes: LIMITR is trained by one. Start it without "
                "launch or torchrun."
            )
        if config.augment:
            self.augmentation = Augmentation(crop=config.smallest_crop)
        torch.manual_seed(config.seed)
        views = 1 if config.lateral == "none" else 2
        self.image_encoder, *others = (
            config.new_image_encoder().to(self.device) for _ in range(views)
        )
        self.lateral_encoder: ImageEncoder | None = others[0] if others else None
        self.text_encoder = config.new_text_encoder().to(self.device)
        self.head = LimitrHead(
            self.image_encoder.region_dim,
            self.image_encoder.pooled_dim,
            self.text_encoder.dim,
            views=views,
            grid=config.grid,
            dim=config.dim,
            place=config.positions,
            attention=config.attention,
            pooling=config.pooling,
            dropout=config.dropout,
            chunk=config.chunk,
        ).to(self.device)
        self.control = copy.deepcopy(self.head)
        self._tables: dict[tuple[str, ...], WordTable] = {}

    def networks(self) -> dict[str, nn.Module]:
        """All of them, by the name in a checkpoint."""
        found: dict[str, nn.Module] = {"image_encoder": self.image_encoder}
        if self.lateral_encoder is not None:
            found["lateral_encoder"] = self.lateral_encoder
        if not self.config.text_is_frozen:
            found["text_encoder"] = self.text_encoder
        return found | {"head": self.head, "control": self.control}

    def data(self, split: Split, *, lateral: Lateral | None = None) -> ViewData:
        """A split as this run takes it; with the laterals of the run, or others."""
        lateral = self.config.lateral if lateral is None else lateral
        return ViewData(self.cache, split, unit=self.config.unit, lateral=lateral)

    def views(self, images: Tensor, laterals: Tensor, has_lateral: Tensor) -> list[View]:
        """What the image encoders say, of pixels that are normalised.

        Args:
            images: [B, 1, H, W]. laterals: [b, 1, H, W], of those that have one.
            has_lateral: [B] bool.
        """
        regions, whole = self.image_encoder.regions_and_pooled(images)
        there = torch.ones(len(images), dtype=torch.bool, device=regions.device)
        found = [View(regions, whole, there)]
        if self.lateral_encoder is not None:
            place = has_lateral.nonzero().flatten().to(regions.device)
            both = torch.zeros_like(regions), torch.zeros_like(whole)
            if len(place) == 1:  # BatchNorm has nothing to take a mean over
                self.lateral_encoder.eval()
            if len(place):
                own = self.lateral_encoder.regions_and_pooled(laterals)
                both = tuple(  # type: ignore[assignment]
                    zeros.index_copy(0, place, some) for zeros, some in zip(both, own, strict=True)
                )
            found.append(View(*both, there=has_lateral.to(regions.device)))
        return found

    # --- What they say of a split ---

    def evaluate(self, data: SplitData, *, batch_size: int = 128, rounds: int = 50) -> SplitResult:
        """The held-out bound in nats of the score that the public code ranks by, and the control.

        That score is a mean, and no part was trained to be one: `held_out` has each by itself.
        """
        own, control = (found.both for found in self.score_split(data))
        return self._result(own, control, data, batch_size, rounds)

    def held_out(
        self, data: SplitData, *, batch_size: int = 128, rounds: int = 50
    ) -> dict[str, SplitResult]:
        """The held-out bounds of a split by InfoNCE, in nats, each beside its control.

        Returns:
            "local" and "whole", of those that are trained, and "both".
        """
        own, control = (found.by_name() for found in self.score_split(data))
        return {
            name: self._result(scores, control[name], data, batch_size, rounds)
            for name, scores in own.items()
        }

    def _result(
        self, own: Tensor, control: Tensor, data: SplitData, batch_size: int, rounds: int
    ) -> SplitResult:
        logits, of_control = (self._as_logits(scores, data) for scores in (own, control))
        matched, shuffled = (
            held_out_bound(
                scores,
                batch_size=batch_size,
                rounds=rounds,
                shuffled=is_control,
                seed=self.config.seed,
            )
            for scores, is_control in ((logits, False), (of_control, True))
        )
        return SplitResult(matched, shuffled, scores=logits)

    def _as_logits(self, scores: Tensor, data: SplitData) -> SplitScores:
        return SplitScores(
            scores=GAMMA_SCORES * scores,
            winners=torch.zeros(scores.shape, dtype=torch.int16),
            study=data.study,
            patient=data.manifest["patient_id"].to_numpy(),
            text_ids=data.text_ids,
        )

    def score_split(
        self, data: SplitData, texts: Sequence[str] | None = None, *, images_at_once: int = 32
    ) -> tuple[LimitrScoresOfSplit, LimitrScoresOfSplit]:
        """Every image of a split with every text (default: the distinct ones of the split).

        Returns:
            Scores of the head, and of the control: the head of the shuffled pairs.
        """
        own, control = self._score((self.head, self.control), data, texts, images_at_once)
        return own, control

    def scores(self, data: SplitData, texts: Sequence[str]) -> LimitrScoresOfSplit:
        """As `score_split`, of the head alone."""
        (own,) = self._score((self.head,), data, texts, 32)
        return own

    @torch.no_grad()
    def _score(
        self,
        heads: Sequence[LimitrHead],
        data: SplitData,
        texts: Sequence[str] | None,
        images_at_once: int,
    ) -> list[LimitrScoresOfSplit]:
        wanted = data.texts if texts is None else list(texts)
        table, blocks = self.word_table(wanted), torch.arange(len(wanted)).split(TEXTS_AT_ONCE)
        parts: list[dict[str, list[Tensor]]] = [{} for _ in heads]
        with autocast(self.device, self.dtype):
            for views in self._views_in_parts(data, np.arange(len(data)), images_at_once):
                for head, rows in zip(heads, parts, strict=True):
                    found = [self.scored(head, views, table.select(block)) for block in blocks]
                    for name in found[0]:
                        row = torch.cat([some[name] for some in found], dim=1)
                        rows.setdefault(name, []).append(row.float().cpu())
        return [_of_split({name: torch.cat(row) for name, row in rows.items()}) for rows in parts]

    def scored(self, head: LimitrHead, views: Sequence[View], words: Words) -> dict[str, Tensor]:
        """The parts of the score that have a loss: [B, M] each."""
        config = self.config
        local, whole = config.external_weight > 0, config.global_weight > 0
        found: dict[str, Tensor] = head(views, words, local=local, whole=whole)
        return found

    def word_table(self, texts: list[str]) -> WordTable:
        """The words of these texts by the text encoder as it is now."""
        frozen, key = self.config.text_is_frozen, tuple(texts)
        if key not in self._tables:
            table = WordTable(
                self.text_encoder, texts, self.cache.folder, keep=frozen, dtype=self.dtype
            )
            if not frozen:  # a step later they are others
                return table
            self._tables[key] = table
        return self._tables[key]

    def _views_in_parts(
        self, data: SplitData, rows: np.ndarray, images_at_once: int
    ) -> Iterator[list[View]]:
        """The views of these images of a split, some at a time, by networks that do not train."""
        if not isinstance(data, ViewData):
            raise DataError("LIMITR takes images with their laterals: data('test') of the run.")
        for network in self.networks().values():
            network.eval()
        for part in in_parts(rows, images_at_once):
            laterals, has_lateral = data.laterals(part)
            images, others = (
                normalise(some.to(self.device)) for some in (data.images(part), laterals)
            )
            yield self.views(images, others, has_lateral)

    @torch.no_grad()
    def maps(
        self, data: SplitData, images: np.ndarray, texts: Sequence[str]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Where in its frontal image each text looks.

        Args:
            images: [S], rows of the split, one for each text.
            texts: [S].

        Returns:
            The attention of its words, [CLS] left out, in the mean; and the cosine of each region
            with the mean of the words: [S, G, G] float32 each.

        Raises:
            ConfigError: no loss trains regions and words.
            DataError: a text has no word.
        """
        if not self.config.external_weight:
            raise ConfigError("external_weight=0: no loss trained what a word sees of a region.")
        grid = self.config.grid
        if not len(texts):
            return (np.empty((0, grid, grid), np.float32),) * 2
        wanted, number = np.unique(np.array(texts), return_inverse=True)
        table = self.word_table(wanted.tolist())
        if silent := wanted[table.lengths < 2].tolist():  # [CLS] alone
            raise DataError(
                f"No word in {len(silent)} texts that are to look at an image, the first is "
                f"{silent[0]!r}. Leave them out."
            )
        every, place = np.unique(images, return_inverse=True)
        found = np.empty((2, len(images), grid**2), np.float32)
        first = 0
        for views in self._views_in_parts(data, every, 32):
            last = first + len(views[0].there)
            pairs = np.flatnonzero((first <= place) & (place < last))
            own = [view.take(torch.from_numpy(place[pairs] - first)) for view in views]
            both = self._looks(own, table.select(torch.from_numpy(number[pairs])))
            found[:, pairs] = torch.stack(both)[..., : grid**2].float().cpu().numpy()
            first = last
        attention, cosine = found.reshape(2, -1, grid, grid)
        return attention, cosine

    def _looks(self, views: Sequence[View], words: Words) -> tuple[Tensor, Tensor]:
        """Attention and cosine of matched pairs over the regions of all views, [S, N] each."""
        vectors, mask = self.head.word_features(words)
        regions, there = self.head.local_features(views)
        spoken = mask.clone()
        spoken[:, 0] = False  # [CLS]
        weights = self.head.scores.attention_maps(regions, there, vectors, mask)
        text = masked_mean(vectors, spoken)[:, None]
        return masked_mean(weights, spoken), torch.cosine_similarity(regions, text, dim=-1)


def _of_split(scores: dict[str, Tensor]) -> LimitrScoresOfSplit:
    pair = [scores[name] for name in ("by_text", "by_image") if name in scores]
    local = torch.stack(pair).mean(dim=0) if pair else None
    return LimitrScoresOfSplit(local=local, whole=scores.get("whole"))
