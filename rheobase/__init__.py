"""Rheobase converts trained PyTorch networks into spiking networks, and says what it cost.

>>> import torch, rheobase as rb
>>> net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
>>> snn = rb.convert(net, torch.rand(64, 4), rb.MSAT.resnet20())
>>> rb.simulate(snn, torch.rand(3, 4), steps=32).output.shape
torch.Size([3, 2])
"""

import lazy_loader

__version__ = "0.1.0"
_attribute, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)  # what there is: __init__.pyi


def __getattr__(name: str) -> object:
    try:
        return _attribute(name)
    except AttributeError as error:
        if name[:1].isupper() and name in _attribute("methods").__all__:
            raise AttributeError(f"rheobase has no {name}; it is rheobase.methods.{name}.", name=name) from error
        raise
