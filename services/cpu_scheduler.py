"""vLLM's scheduler on a CPU, where reading a prompt takes seconds: what is urgent need not wait for it.

vLLM fills a step with the prompts that are being read before it looks at any that waits, whatever its priority, and
eight runs keep a planner reading all the time. Here a step reads little, and what is urgent (the trial of new weights)
gets a step of its own, with the texts that are being written, which cost next to nothing. Prompts that are half read
keep what is read of them. A prompt that is alone takes a tenth longer for it (docs/adr/0010-a-step-of-its-own.md).
"""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.request import Request

_SHARE = 4
"""A step reads this part of what it could, `max_num_batched_tokens`, unless something urgent is read."""


class UrgentFirst(Scheduler):
    """Requests with a priority below 0 before the prompts of all others."""

    _makes_way = False

    def schedule(self, *args: Any, **kwargs: Any) -> SchedulerOutput:
        """What is computed in the next step."""
        waiting = [request for request in self.waiting if _is_urgent(request)]
        urgent = [*waiting, *filter(_is_urgent, self.running)]
        is_full = len(self.running) + len(waiting) > self.max_num_running_reqs
        most, held_back = self.max_num_scheduled_tokens, list[Request]()
        if not urgent or is_full or self._makes_way:
            urgent, self.max_num_scheduled_tokens = [], max(most // _SHARE, len(self.running))
        else:
            held_back = [request for request in self.running if request.is_prefill_chunk and not _is_urgent(request)]
            self.running = [request for request in self.running if request not in held_back]
            needed = sum(map(_unread, waiting)) + sum(_unread(r) if _is_urgent(r) else 1 for r in self.running)
            self.max_num_scheduled_tokens = min(most, needed)
        try:
            with self._places_kept(held_back):
                output = super().schedule(*args, **kwargs)
        finally:
            self.running += held_back
            self.max_num_scheduled_tokens = most
        # What is missing, memory or a place, may be with those that were held back: in the next step they go on.
        self._makes_way = any(one.request_id not in output.num_scheduled_tokens for one in urgent)
        return output

    @contextmanager
    def _places_kept(self, held_back: list[Request]) -> Generator[None]:
        """For those that are held back, and for their adapters: vLLM counts only the running ones, and a step that is
        to compute more of either than there are places for ends the engine."""
        active, adapters = self.max_num_active_reqs, self.lora_config.max_loras if self.lora_config else 0
        self.max_num_active_reqs -= len(held_back)
        if self.lora_config:
            self.lora_config.max_loras -= len(_adapters(held_back) - _adapters(self.running))
        try:
            yield
        finally:
            self.max_num_active_reqs = active
            if self.lora_config:
                self.lora_config.max_loras = adapters


def _unread(request: Request) -> int:
    return request.num_tokens - request.num_computed_tokens


def _adapters(requests: list[Request]) -> set[int]:
    return {request.lora_request.lora_int_id for request in requests if request.lora_request}


def _is_urgent(request: Request) -> bool:
    return request.priority < 0
