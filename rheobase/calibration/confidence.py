"""How far the early spikes of a layer can be trusted.

References:
    He et al. 2023, arXiv 2303.13080, sections 3.2.2 and 4.2. The authors measured it on test
    images; here it is measured on calibration data.
"""

from __future__ import annotations

from collections.abc import Collection

import torch

from rheobase.batches import batches_for
from rheobase.calibration.activations import site_by_site
from rheobase.errors import SettingError, miscounted
from rheobase.graph import Graph
from rheobase.reading import Reading
from rheobase.simulation import stream
from rheobase.spiking import SpikingModel

__all__ = ["measure_confidence"]


@torch.no_grad()
def measure_confidence(
    snn: SpikingModel, graph: Graph, batches: object, sites: Collection[str], steps: int = 16
) -> dict[str, float]:
    """The spike confidence p of each site.

    With fired the neurons that send at least one spike in the first E steps, and inactivated
    those whose pre-activation in the ANN is negative:

    .. code-block:: text

        p = 1 - |fired and inactivated| / |fired|      (1 where nothing fires)

    Args:
        snn: the converted network, without a filter at these sites.
        graph: the network in normal form.
        batches: calibration data, what `rheobase.batches.as_batches` accepts.
        sites: where to measure.
        steps: E, at least 1.

    Returns:
        p for each site, from 0 to 1.

    Raises:
        SettingError: the network has no such site, or E is below 1.
    """
    problems = miscounted("steps", steps)
    known = f"there are {', '.join(graph.sites)}"
    problems += [f"there is no site {site!r}; {known}" for site in sites if site not in graph.sites]
    if problems:
        raise SettingError(f"measure_confidence: {'; '.join(problems)}.")
    fired = dict.fromkeys(sites, 0)
    wrong = dict.fromkeys(sites, 0)
    read = Reading(batches_for(batches, graph.module))

    def count() -> None:
        for x, _ in read:
            pre_activations = {site: received for site, received, _ in site_by_site(snn.graph, x) if site in sites}
            sent = {site: torch.zeros_like(pre_activations[site], dtype=torch.bool) for site in sites}
            for part in stream(snn, x, steps, record=sites):
                for site, values in part.values.items():
                    sent[site] |= (values != 0).any(0)
            for site in sites:
                fired[site] += int(sent[site].sum())
                wrong[site] += int((sent[site] & (pre_activations[site] < 0)).sum())

    read.alike(count)
    return {site: 1.0 - wrong[site] / fired[site] if fired[site] else 1.0 for site in sites}
