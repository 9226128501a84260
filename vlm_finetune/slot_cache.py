"""Keys and values of rows of unequal length, each in a slot of its own that another row can take over."""

from collections.abc import Sequence
from typing import Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer


class SlotLayer(DynamicLayer):
    """Keys and values of one layer, each (slots, K, room, D); a row starts at the first position of its slot."""

    def __init__(self, cache: "SlotCache") -> None:
        super().__init__()
        self.cache = cache
        self._keys = self._values = torch.empty(0)

    def put(self, slots: Sequence[int], keys: torch.Tensor, values: torch.Tensor) -> None:
        """Begin new rows in `slots` (n) with `keys` and `values` (n, K, L, D)."""
        if not self.is_initialized:
            self.lazy_initialization(keys, values)
        where = torch.tensor(slots, device=keys.device)
        self._keys[where, :, : keys.shape[2]] = keys
        self._values[where, :, : values.shape[2]] = values

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Take the memory of all slots, for heads like these."""
        # Zeros, since what a row does not see yet is still multiplied, by nought.
        shape = (self.cache.size, key_states.shape[1], self.cache.room)
        self._keys = key_states.new_zeros((*shape, key_states.shape[3]))
        self._values = value_states.new_zeros((*shape, value_states.shape[3]))
        self.is_initialized = True

    def move(self, slots: Sequence[int], *, length: int) -> None:
        """Move the first `length` positions of the rows in `slots` (n) to the first n slots."""
        where = torch.tensor(slots, device=self._keys.device)
        self._keys[: len(slots), :, :length] = self._keys[where, :, :length]
        self._values[: len(slots), :, :length] = self._values[where, :, :length]

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **settings: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write the next position (n, K, 1, D) of the first n rows, each behind its own last one."""
        count, end = len(key_states), self.cache.longest + 1
        rows = torch.arange(count, device=key_states.device)
        self._keys[rows, :, self.cache.lengths] = key_states[:, :, 0]
        self._values[rows, :, self.cache.lengths] = value_states[:, :, 0]
        return self._keys[:count, :, :end], self._values[:count, :, :end]

    def get_seq_length(self) -> int:
        """Positions of the longest row."""
        return self.cache.longest


class SlotCache(DynamicCache):
    """Cache of `size` slots with room for `room` positions each; memory is taken when the first row comes.

    Args:
        layers: of the language model.
    """

    def __init__(self, layers: int, *, size: int, room: int) -> None:
        super().__init__()
        self.size = size
        self.room = room
        self.lengths = torch.empty(0, dtype=torch.long)
        """Positions of each of the first rows."""
        self.longest = 0
        self._slots = [SlotLayer(self) for _ in range(layers)]
        self.layers = [*self._slots]

    def put(self, slots: Sequence[int], prompts: Any) -> None:
        """Begin new rows in `slots` with the keys and values of their `prompts`, a cache."""
        for layer, read in zip(self._slots, prompts.layers, strict=True):
            layer.put(slots, read.keys, read.values)

    def keep(self, slots: Sequence[int], *, length: int) -> None:
        """Move the rows in `slots`, none longer than `length`, to the first ones; what the others hold is lost."""
        for layer in self._slots:
            layer.move(slots, length=length)

    def expect(self, lengths: torch.Tensor, *, longest: int) -> None:
        """Say how many positions each of the first rows has, and which of these is the largest that matters."""
        self.lengths, self.longest = lengths, longest
