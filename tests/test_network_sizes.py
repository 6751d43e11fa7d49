"""The count of operations against closed forms."""

import pytest
import torch
from torch import nn

from benchmarks import network_sizes
from tisr_scope.networks.baselines.window_attention import WindowAttention
from tisr_scope.networks.presets import preset


def test_operations_of_a_convolution_and_of_attention(monkeypatch):
    """Twice the products: of a convolution, and of queries, keys and values in one cell."""

    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 5, 3, padding=1)
            self.attention = WindowAttention(8, (2, 4, 4), 2, mutual=True)

        def forward(self, x):
            return self.conv(x[0]), self.attention(torch.zeros(3, 32, 8), torch.ones(3, 32))

    monkeypatch.setattr(network_sizes, "build", lambda made: Both())
    convolution = 2 * 7 * 64 * 64 * 5 * 9
    projections = 2 * 3 * 32 * (8 * 24 + 8 * 24 + 16 * 8)
    products = 2 * 3 * (2 * 32 * 32 * 8 + 2 * 2 * 16 * 16 * 8)
    found = network_sizes.operations(preset("vrt", bayesian=False))
    assert found == pytest.approx(convolution + projections + products, rel=1e-9)
