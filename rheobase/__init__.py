"""Rheobase converts trained PyTorch networks into spiking networks, and says what it cost.

>>> import torch, rheobase as rb
>>> net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
>>> snn = rb.convert(net, torch.rand(64, 4), rb.MSAT.resnet20())
>>> rb.simulate(snn, torch.rand(3, 4), steps=32).output.shape
torch.Size([3, 2])
"""

import lazy_loader

__version__ = "0.1.0"
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)  # what there is: __init__.pyi
