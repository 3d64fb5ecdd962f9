"""The figure of a hardware profile."""

from __future__ import annotations

from pathlib import Path

from sparsity_lab.hardware.profile import break_even
from sparsity_lab.plots.figures import speed_ups_figure
from sparsity_lab.plots.info_hardware import SpeedUps, speed_ups
from sparsity_lab.plots.style import save
from sparsity_lab.specs.hardware import HardwareProfile, ProductFormat


def speed_ups_of(profile: HardwareProfile) -> SpeedUps | None:
    """The figure's numbers; None where the profile has nothing sparse but training steps."""
    products = [one.format for one in profile.sparse_products]
    drawn = [one.format for one in profile.inference] or products  # whole passes decide where there are any
    if not drawn:
        return None
    even: dict[ProductFormat, float | None] = {name: break_even(profile, name) for name in dict.fromkeys(drawn)}
    return speed_ups(profile, even)


def draw_profile(profile: HardwareProfile, path: Path) -> tuple[Path, ...]:
    """Draw speed-up against sparsity beside a profile, as PNG and SVG.

    Returns:
        The files; none where there is nothing to draw.

    Raises:
        MachineError: the folder cannot be written.
    """
    info = speed_ups_of(profile)
    return () if info is None else save(speed_ups_figure(info), path.parent, path.stem)
