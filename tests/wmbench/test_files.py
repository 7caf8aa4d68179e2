"""Files written whole or not at all."""

import os
import stat

import pytest
import torch

from wmbench.checkpoints import save_tensors
from wmbench.errors import WmbenchError
from wmbench.files import fresh_folder, write_atomically


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_who_may_read_is_as_for_any_file(tmp_path, mask):
    before = os.umask(mask)
    try:
        (tmp_path / "plain").write_text("")
        save_tensors(tmp_path / "weights.safetensors", {"x": torch.zeros(2)})
        write_atomically(tmp_path / "text", lambda path: path.write_text("x"))
    finally:
        os.umask(before)
    assert mode(tmp_path / "weights.safetensors") == mode(tmp_path / "text") == mode(tmp_path / "plain")


def test_what_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")

    def fail(temporary):
        temporary.write_text("half")
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        write_atomically(path, fail)
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_a_folder_is_whole_or_absent(tmp_path):
    out = tmp_path / "out"
    with pytest.raises(RuntimeError), fresh_folder(out) as partial:
        (partial / "file").write_text("half")
        raise RuntimeError
    assert not list(tmp_path.iterdir())
    with fresh_folder(out) as partial:
        (partial / "file").write_text("whole")
    assert (out / "file").read_text() == "whole"
    with pytest.raises(WmbenchError, match="never overwritten"), fresh_folder(out):
        pass
