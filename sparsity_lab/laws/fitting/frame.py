"""Coordinates of a fit in which bounds of raw parameters are a box, whatever units the fit works in.

A fit walks over amplitudes in its own units, where size, data and loss are near one: those of A in A / N^alpha depend
on alpha, so a bound of A would be no box there. A parameter that has bounds of its own (`Form.bounded`), as one that is
pinned, is therefore walked in the raw: its place in phi holds the parameter itself, its log where it is positive, and
theta(phi) turns that into the fit's amplitudes. Where no amplitude has such bounds phi is theta.

Derivatives follow by the chain rule. The slopes of theta(phi) come from central differences of that map, which has no
rows in it: gradients are good to about 1e-11 of their size, Hessians to 1e-6.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sparsity_lab.laws.forms.form import Form
from sparsity_lab.laws.forms.terms import Units
from sparsity_lab.laws.rows.runs import FloatArray

STEP = 1e-3
"""of the differences; coordinates are logs"""
LEAST = 1e-300
"""stands for a parameter of nothing, which has no log"""


class Bent(NamedTuple):
    """theta at (B, P) phi with its derivatives: `first` (B, P, P) by phi, `second` (B, P, P, P) by two of phi."""

    theta: FloatArray
    first: FloatArray
    second: FloatArray


@dataclass(frozen=True, eq=False)
class Frame:
    """The map between what a fit walks over and its form's coordinates.

    Attributes:
        form: the form.
        units: of the fit.
        raw: (k,) places of the coordinates that hold raw parameters.
    """

    form: Form
    units: Units
    raw: NDArray[np.intp]

    @classmethod
    def of(cls, form: Form, units: Units) -> Frame:
        """The frame of a form: what has bounds of its own and is not the fit's coordinate as it is, in the raw."""
        bounded = [i for i, name in enumerate(form.coordinates) if name in form.bounds]
        probe = np.linspace(0.1, 0.5, 2 * len(form.coordinates)).reshape(2, -1)
        raw = cls(form, units, np.array(bounded, dtype=np.intp)).phi(form.to_params(probe, units))
        places = [i for i in bounded if not np.allclose(raw[:, i], probe[:, i])]
        return cls(form, units, np.array(places, dtype=np.intp))

    def params(self, phi: FloatArray) -> NamedTuple:
        """Raw parameters, each of the shape of phi without its last axis."""
        return self.form.to_params(self.theta(phi), self.units)

    def phi(self, params: NamedTuple) -> FloatArray:
        """(…, P): the inverse of `params`."""
        phi, values = self.form.to_coordinates(params, self.units), params._asdict()
        for place, name in self._raw_names():
            value = np.asarray(values[name], dtype=np.float64)
            phi[..., place] = value if self.form.parameter(name).signed else np.log(np.maximum(value, LEAST))
        return phi

    def into(self, theta: FloatArray) -> FloatArray:
        """Phi (…, P) at the form's coordinates (…, P): the inverse of `theta`."""
        return self.phi(self.form.to_params(theta, self.units)) if len(self.raw) else theta

    def theta(self, phi: FloatArray) -> FloatArray:
        """The form's coordinates (…, P) at phi (…, P)."""
        if not len(self.raw):
            return phi
        changed = {
            name: phi[..., place] if self.form.parameter(name).signed else np.exp(phi[..., place])
            for place, name in self._raw_names()
        }
        params = self.form.to_params(phi, self.units)._replace(**changed)
        theta = phi.copy()
        theta[..., self.raw] = self.form.to_coordinates(params, self.units)[..., self.raw]
        return theta

    def bent(self, phi: FloatArray) -> Bent:
        """Theta and its derivatives at (B, P) phi."""
        P = phi.shape[1]
        shifts = STEP * np.concatenate([np.eye(P), -np.eye(P)])
        pairs = (shifts[:, None] + shifts[None]).reshape(-1, 1, P)
        around = self.theta(np.concatenate([phi[None], phi + shifts[:, None], phi + pairs]))
        ahead, behind = around[1 : P + 1], around[P + 1 : 2 * P + 1]
        corners = around[2 * P + 1 :].reshape(2, P, 2, P, len(phi), P)
        places = range(P)
        twice = corners[0, places, 0, places] - corners[1, places, 1, places]
        first = (8 * (ahead - behind) - twice) / (12 * STEP)
        second = (corners[0, :, 0] - corners[0, :, 1] - corners[1, :, 0] + corners[1, :, 1]) / (4 * STEP**2)
        second[..., np.setdiff1d(places, self.raw)] = 0.0
        return Bent(around[0], np.moveaxis(first, 0, 2), np.moveaxis(second, (0, 1), (2, 3)))

    def _raw_names(self) -> list[tuple[int, str]]:
        return [(int(place), self.form.coordinates[place]) for place in self.raw]
