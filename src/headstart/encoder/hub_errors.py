"""Errors of a hub and of the network, as one line with the remedy."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub import constants
from huggingface_hub.errors import (
    DisabledRepoError,
    GatedRepoError,
    HfHubHTTPError,
    HTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from headstart.encoder.checkpoint_files import CheckpointError

UNREACHABLE = (HTTPError, OSError)  # the bases of all that huggingface_hub raises of the hub and the network


@contextmanager
def explained(model: str, revision: str) -> Iterator[None]:
    """Within this context, an error of the hub or of the network becomes a `CheckpointError` with the remedy."""
    hub, cache = constants.ENDPOINT, constants.HF_HUB_CACHE
    try:
        yield
    except GatedRepoError:
        raise CheckpointError(
            f"{model}: the model is gated. Accept its terms at {hub}/{model}, then log in with `hf auth login` or set "
            "HF_TOKEN to a token of that account"
        ) from None
    except RevisionNotFoundError:
        raise CheckpointError(
            f"{model}: there is no revision {revision!r}; `revision` is a branch, a tag or a commit that is listed at "
            f"{hub}/{model}/commits/main"
        ) from None
    except RepositoryNotFoundError:
        raise CheckpointError(
            f"{model}: there is no such model at {hub}, or it is private. Check the name; for a private model, log in "
            "with `hf auth login` or set HF_TOKEN"
        ) from None
    except DisabledRepoError:
        raise CheckpointError(f"{model}: {hub} has disabled access to this model; take another one") from None
    except OfflineModeIsEnabled:
        raise CheckpointError(
            f"{model}: revision {revision!r} is not in the cache ({cache}), and HF_HUB_OFFLINE forbids to ask the hub. "
            "Run `headstart fetch STUDY.yaml` without it once"
        ) from None
    except HfHubHTTPError as error:
        status = error.response.status_code
        advice = "is HF_TOKEN still valid?" if status in (401, 403) else "try again later"
        raise CheckpointError(f"{model}: {hub} answers with status {status}; {advice}") from None
    except UNREACHABLE as error:
        if getattr(error, "errno", None) == errno.ENOSPC:
            raise CheckpointError(f"{model}: the disk of {cache} is full; free some space, or set HF_HOME") from None
        raise CheckpointError(
            f"{model}: revision {revision!r} is not in the cache ({cache}), and {hub} cannot be reached "
            f"({in_short(error)}). Run `headstart fetch STUDY.yaml` on a machine with a network and the same HF_HOME"
        ) from None


def in_short(error: BaseException) -> str:
    """The beginning of an error's first line."""
    return str(error).strip().splitlines()[0][:100] if str(error).strip() else type(error).__name__
