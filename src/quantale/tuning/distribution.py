"""Several processes that share every batch of a training: data-parallel training by `torchrun`.

A step's batches are those of one process; each process takes its rows of them, and gradients that
are already divided by all scored targets of the step are added up. So the losses are those of one
process, whatever the number of processes. Gradients are added after the backward passes of a step,
and not in them as torch's DistributedDataParallel does: a tuning method then gets its model itself
and no wrapper, and weights without a gradient, or a process without a scored target, are no
special case. The price is that sending does not overlap with computing.
"""

from collections.abc import Iterable, Iterator, Mapping

import torch
import torch.distributed as torch_distributed
from accelerate import PartialState
from torch import nn

from quantale.data.batch import Batch

_BUCKET = 2**23
"""Numbers that are sent at once."""


class Group:
    """The processes of one training; alone, every operation is the identity."""

    def __init__(self, *, cpu: bool = False) -> None:
        """Join the group that torchrun announces; waits for the others."""
        # without this the state of several processes that have no GPU is that of one
        state = PartialState(cpu=cpu or not torch.cuda.is_available())
        self.device: torch.device = state.device
        self.rank: int = state.process_index
        self.count: int = state.num_processes

    @property
    def is_first(self) -> bool:
        """Whether this process writes and reports."""
        return self.rank == 0

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.count > 1:
            torch_distributed.barrier()

    def leave(self) -> None:
        """End the group, at the end of the process."""
        if self.count > 1:
            PartialState().destroy_process_group()

    def share(self, batch: Batch) -> Batch:
        """Return this process's rows, which may be none, on its device."""
        if self.count == 1 and batch.inputs.device == self.device:
            return batch
        rows = batch.inputs.shape[0]
        own = slice(self.rank * rows // self.count, (self.rank + 1) * rows // self.count)
        mask = None if batch.mask is None else batch.mask[own]
        return Batch(batch.inputs[own], batch.targets[own], mask).to(self.device)

    def add(self, values: torch.Tensor) -> torch.Tensor:
        """Return the sum over all processes of a small tensor."""
        if self.count == 1:
            return values
        found = values.to(self.device, copy=True)
        torch_distributed.all_reduce(found)
        return found

    def add_gradients(self, weights: Iterable[nn.Parameter]) -> None:
        """Replace gradients by their sum over all processes; one that none has stays None."""
        if self.count == 1:
            return
        every = list(weights)
        has = torch.tensor([w.grad is not None for w in every], device=self.device).int()
        torch_distributed.all_reduce(has)
        for bucket in _buckets([w for w, n in zip(every, has.tolist(), strict=True) if n]):
            parts = [torch.zeros_like(w) if w.grad is None else w.grad for w in bucket]
            flat = torch.cat([part.reshape(-1) for part in parts])
            torch_distributed.all_reduce(flat)
            pieces = torch.split(flat, [w.numel() for w in bucket])
            for weight, piece in zip(bucket, pieces, strict=True):
                weight.grad = piece.view_as(weight)

    def same_start(self, weights: Iterable[torch.Tensor]) -> None:
        """Give all processes the first one's weights."""
        if self.count > 1:
            for weight in weights:
                torch_distributed.broadcast(weight.data, src=0)

    def random_states(self) -> dict[str, torch.Tensor]:
        """Return the states of torch's generators in the other processes, in all of them."""
        if self.count == 1:
            return {}
        own = self._random_state().to(self.device)
        states = [torch.empty_like(own) for _ in range(self.count)]
        torch_distributed.all_gather(states, own)
        return {_name(rank): state.cpu() for rank, state in enumerate(states) if rank}

    def restore_random(self, states: Mapping[str, torch.Tensor]) -> None:
        """Take this process's state back, of those that `random_states` returned."""
        if self.rank == 0:
            return
        state = states[_name(self.rank)]
        size = torch.get_rng_state().numel()
        torch.set_rng_state(state[:size])
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(state[size:], self.device)

    def _random_state(self) -> torch.Tensor:
        states = [torch.get_rng_state()]
        if self.device.type == "cuda":
            states.append(torch.cuda.get_rng_state(self.device))
        return torch.cat(states)


def _name(rank: int) -> str:
    return f"rank-{rank}"


def _buckets(weights: list[nn.Parameter]) -> Iterator[list[nn.Parameter]]:
    """Cut into runs of one dtype and of about `_BUCKET` numbers."""
    bucket: list[nn.Parameter] = []
    for weight in weights:
        full = sum(w.numel() for w in bucket) + weight.numel() > _BUCKET
        if bucket and (full or weight.dtype != bucket[0].dtype):
            yield bucket
            bucket = []
        bucket.append(weight)
    if bucket:
        yield bucket
