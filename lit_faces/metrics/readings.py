"""What a detector read in a test, face by face, and how each person fared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lit_faces.core.ranks import gather
from lit_faces.metrics.classification import f1_of_counts, occurrence_counts
from lit_faces.metrics.icc import icc_of_moments, pair_moments


@dataclass
class Readings:
    """Every tested face of a detector's test.

    Attributes:
        subject: n names.
        truth: float (n, 19), 0..5, NaN = not coded.
        read: float (n, 19), 0..5.
        occurrence: float (n, 19), 0/1, NaN = not coded.
        occurs: float (n, 19), 0/1, as read.
        emotion: int (n,), -1 = not labelled.
        expression: int (n,), as read; None where expressions are not read.
    """

    subject: list[str]
    truth: Tensor
    read: Tensor
    occurrence: Tensor
    occurs: Tensor
    emotion: Tensor
    expression: Tensor | None = None

    @classmethod
    def of_batches(cls, batches: list[Readings]) -> Readings:
        """All of them, of all ranks. All ranks must call it.

        Raises:
            ValueError: no rank has read anything.
        """
        parts = [part for rank in gather(batches) for part in rank]
        if not parts:
            raise ValueError("nothing was read: the test has no batch in any process")
        names = ("truth", "read", "occurrence", "occurs", "emotion")
        columns: dict[str, Any] = {name: torch.cat([getattr(part, name) for part in parts]) for name in names}
        if parts[0].expression is not None:
            columns["expression"] = torch.cat([part.expression for part in parts])  # type: ignore[misc]
        return cls([name for part in parts for name in part.subject], **columns)

    def people(self) -> list[dict[str, Any]]:
        """One row a person: faces, and means over the AUs where a figure is defined."""
        rows = []
        for name in sorted(set(self.subject)):
            where = torch.tensor([subject == name for subject in self.subject])
            truth, read = self.truth[where].double(), self.read[where].double()
            counts = occurrence_counts(self.occurrence[where], self.occurs[where])
            row: dict[str, Any] = {
                "subject": name,
                "faces": int(where.sum()),
                "icc": float(icc_of_moments(pair_moments(truth, read)).nanmean()),
                "mae": float((truth - read).abs().nanmean()),
                "f1": float(f1_of_counts(counts).nanmean()),
            }
            coded = self.emotion[where] >= 0
            if self.expression is not None and bool(coded.any()):
                right = (self.expression[where] == self.emotion[where])[coded]
                row["expression_accuracy"] = float(right.double().mean())
            rows.append(row)
        return rows
