"""Weights on disk: a pickle is told from a safetensors file whatever the length of its header."""

import pickle
import struct

import pytest
import torch
from safetensors.torch import save_file

from lacunar.errors import ModelError
from lacunar.models.weights import is_pickle, read_safetensors


def test_a_header_whose_length_begins_like_a_pickle_is_read(tmp_path):
    file = tmp_path / "model.safetensors"
    lengths = set()
    for extra in range(0, 400, 8):
        save_file({"w": torch.arange(3.0)}, file, metadata={"note": "x" * extra})
        lengths.add(struct.unpack("<Q", file.read_bytes()[:8])[0] % 256)
        assert not is_pickle(file)
        assert torch.equal(read_safetensors(file)["w"], torch.arange(3.0))
    assert 0x80 in lengths  # the byte that every pickle of protocol 2 or later begins with


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_a_pickle_is_never_opened(tmp_path, protocol):
    file = tmp_path / "model.safetensors"
    file.write_bytes(pickle.dumps({"w": [1.0] * 20}, protocol=protocol))
    assert is_pickle(file)
    with pytest.raises(ModelError, match="is a pickle, which could run code"):
        read_safetensors(file)
    torch.save({"w": torch.zeros(2)}, file)
    assert is_pickle(file)
