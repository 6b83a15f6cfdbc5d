"""CTC: transformers' loss, torch's own limit on label lengths, and transcripts that do not depend on the batch."""

import pytest
import torch
from transformers import Wav2Vec2ForCTC

from headstart.encoder.checkpoints import ctc_model
from headstart.encoder.front_end import frame_counts, front_end, length_mask
from headstart.encoder.model import encode
from headstart.objectives.ctc import ctc_loss, required_frames
from headstart.score.transcription import batches_by_length, transcribe
from headstart.text.normalisation import build_vocabulary

pytestmark = pytest.mark.usefixtures("one_thread")

VOCABULARY = build_vocabulary(["abcdefgh '"])


@pytest.fixture(scope="module")
def network(tiny_model, one_thread) -> Wav2Vec2ForCTC:
    torch.manual_seed(0)
    network = ctc_model(None, tiny_model, VOCABULARY, dropout=0.0).eval()
    torch.nn.init.normal_(network.lm_head.weight)  # so that the best label changes from frame to frame
    return network


def test_the_loss_is_that_of_transformers_for_each_label(network):
    audio, samples = torch.randn(3, 20_000), torch.tensor([20_000, 14_000, 8_000])
    audio[~length_mask(samples, 20_000)] = 0.0
    labels = [[3, 4, 4, 5, 2, 6, 7], [8], [3, 3, 2, 9, 10]]
    padded = torch.full((3, 7), -100)
    for row, label in zip(padded, labels, strict=True):
        row[: len(label)] = torch.tensor(label)
    network.config.ctc_loss_reduction = "sum"
    valid = length_mask(samples, 20_000).long()
    theirs = network(audio, attention_mask=valid, labels=padded).loss
    theirs.backward()
    gradient = network.lm_head.weight.grad.clone()
    network.zero_grad(set_to_none=True)

    frames = frame_counts(network.config, samples)
    context, _ = encode(network.base_model, front_end(network.base_model, audio, samples), frames)
    ours = ctc_loss(network.lm_head(context), frames, labels, blank=0)
    ours.backward()
    torch.testing.assert_close(ours, theirs / 13, rtol=1e-5, atol=0)
    torch.testing.assert_close(
        network.lm_head.weight.grad, gradient / 13, rtol=1e-3, atol=1e-4 * gradient.abs().max().item()
    )


def test_frames_beyond_an_utterances_length_do_not_count():
    torch.manual_seed(0)
    logits, frames = torch.randn(2, 30, 6), torch.tensor([30, 12])
    loss = ctc_loss(logits, frames, [[1, 2], [3]], blank=0)
    changed = logits.clone()
    changed[1, 12:] += 10 * torch.randn(18, 6)
    assert torch.equal(ctc_loss(changed, frames, [[1, 2], [3]], blank=0), loss)
    half = ctc_loss(logits.bfloat16(), frames, [[1, 2], [3]], blank=0)
    assert half.dtype == torch.float32 and half.item() == pytest.approx(loss.item(), rel=1e-2)


def test_a_label_needs_exactly_the_frames_below_which_torch_finds_no_path():
    generator = torch.Generator().manual_seed(0)
    for _ in range(60):
        size = int(torch.randint(1, 12, (), generator=generator))
        labels = torch.randint(1, 4, (size,), generator=generator)  # few symbols: many equal neighbours
        needed = required_frames(labels.tolist())
        losses = []
        for frames in (needed - 1, needed):
            log_probs = torch.zeros(max(frames, 1), 1, 4).log_softmax(-1)
            lengths = torch.tensor([frames]), torch.tensor([size])
            losses.append(torch.nn.functional.ctc_loss(log_probs, labels[None], *lengths, reduction="sum").item())
        assert losses[0] == float("inf") and losses[1] < float("inf"), labels
    assert required_frames("") == 0 and required_frames("hello") == 6  # characters count like labels


def test_a_label_that_is_too_long_does_not_spoil_the_batch():
    logits = torch.randn(2, 10, 6, requires_grad=True)
    loss = ctc_loss(logits, torch.tensor([10, 2]), [[1, 2, 3], [1, 1, 1]], blank=0)
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(logits.grad).all()
    assert logits.grad[0].abs().sum() > 0


def test_transcripts_of_a_batch_are_those_of_one_clip_at_a_time(network, noise_clips):
    together = transcribe(network, noise_clips, VOCABULARY)
    alone = [transcribe(network, noise_clips.take([i]), VOCABULARY)[0] for i in range(len(noise_clips))]
    few = transcribe(network, noise_clips, VOCABULARY, batch_seconds=2.5)
    assert together == alone == few
    assert len(set(together)) > 5 and all(together)  # texts that differ, and in the order of the clips


def test_batches_for_transcription_stay_within_the_limit_and_cover_everything():
    lengths = [5, 30, 7, 7, 12, 1, 100]
    batches = list(batches_by_length(lengths, 36))
    assert sorted(i for batch in batches for i in batch) == list(range(7))
    assert all(len(batch) * max(lengths[i] for i in batch) <= 36 for batch in batches if len(batch) > 1)
    assert [6] in batches and list(batches_by_length([], 36)) == []
