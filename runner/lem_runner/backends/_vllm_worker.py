"""What runs inside vLLM's workers, where the model and the device are: facts and figures that only they know.

vLLM adds the methods of this class to its worker's; the controller's half calls them by name. Nothing else of the
runner is imported here.
"""

from __future__ import annotations

from collections import Counter
from typing import Any


class WorkerProbe:
    """Its methods become methods of the worker, which has `model_runner`, `device` and `rank`."""

    def lem_synchronize(self) -> None:
        """Return when the worker's device has finished."""
        if self._lem_has_cuda():
            import torch

            torch.cuda.synchronize()

    def lem_reset_peak(self) -> None:
        """Start the device's memory peak anew."""
        if self._lem_has_cuda():
            import torch

            torch.cuda.reset_peak_memory_stats()

    def lem_memory_b(self) -> tuple[int, int] | None:
        """Bytes of the device as torch's allocator counts them, now and at the peak; None on a CPU."""
        if not self._lem_has_cuda():
            return None
        import torch

        return torch.cuda.memory_allocated(), torch.cuda.max_memory_allocated()

    def lem_facts(self) -> dict[str, Any]:
        """The worker's share of the model: weights by dtype, their number, the device.

        The weights are None on a CPU, whose kernels keep packed copies that the model no longer lists.
        """
        import torch

        worker: Any = self
        model = worker.model_runner.model
        weights_b: Counter[str] = Counter()
        for weight in model.parameters():
            weights_b[str(weight.dtype).removeprefix("torch.")] += weight.numel() * weight.element_size()
        is_whole = self._lem_has_cuda()
        return {
            "architecture": type(model).__name__,
            "weights_b_by_dtype": dict(weights_b) if is_whole else None,
            "parameters": sum(weight.numel() for weight in model.parameters()) if is_whole else None,
            "attention": sorted(
                {group.backend.get_name() for groups in worker.model_runner.attn_groups for group in groups}
            ),
            "device": str(worker.device),
            "device_name": torch.cuda.get_device_name() if self._lem_has_cuda() else None,
            "num_threads": torch.get_num_threads(),
        }

    def _lem_has_cuda(self) -> bool:
        worker: Any = self
        return str(worker.device).startswith("cuda")
