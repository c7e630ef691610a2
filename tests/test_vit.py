"""Transformers against PyTorch's own, positions against their formula, and what is made of them."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import apercu
from apercu import registry
from apercu.api import Model
from apercu.attention import Attention, Transformer, TransformerBlock, heads_of, patch_depth, positions
from apercu.data.images import ImageSet
from apercu.errors import ApercuError
from apercu.presets import build
from apercu.tasks.classify import Classify
from apercu.tasks.generate import Generate
from apercu.training import Training
from apercu.types import Batch, ImageSpec
from tests.conftest import shapes

FAST = Training(epochs=1, batch=32, device="cpu", precision="32")
TINY = {"width": 8, "blocks": 1, "dim": 4}
CPU = torch.device("cpu")


def copied(ours: TransformerBlock, theirs: nn.TransformerEncoderLayer) -> None:
    """Give our block the weights of PyTorch's."""
    attention, dense = ours.attention, ours.dense
    pairs = [
        (attention.queries_keys_values.weight, theirs.self_attn.in_proj_weight),
        (attention.queries_keys_values.bias, theirs.self_attn.in_proj_bias),
    ]
    modules = [
        (attention.out, theirs.self_attn.out_proj),
        (dense[0], theirs.linear1),
        (dense[2], theirs.linear2),
        (ours.norm1, theirs.norm1),
        (ours.norm2, theirs.norm2),
    ]
    with torch.no_grad():
        for mine, other in pairs:
            mine.copy_(other)
        for module, reference in modules:
            module.load_state_dict(reference.state_dict())
            module.weight.add_(0.1 * torch.randn_like(module.weight))
            reference.load_state_dict(module.state_dict())


@pytest.mark.parametrize("masked", [False, True])
def test_attention_is_that_of_pytorch(masked: bool) -> None:
    torch.manual_seed(0)
    ours, theirs = Attention(24, 3), nn.MultiheadAttention(24, 3, batch_first=True)
    ours.queries_keys_values.load_state_dict({"weight": theirs.in_proj_weight, "bias": theirs.in_proj_bias})
    ours.out.load_state_dict(theirs.out_proj.state_dict())
    x = torch.randn(2, 7, 24)
    may_read = (torch.rand(2, 7, 7) < 0.5) | torch.eye(7, dtype=torch.bool) if masked else None
    forbidden = None if may_read is None else (~may_read).repeat_interleave(3, 0)
    expected, _ = theirs(x, x, x, attn_mask=forbidden, need_weights=False)
    torch.testing.assert_close(ours(x, may_read), expected)


def test_a_block_is_that_of_pytorch() -> None:
    torch.manual_seed(0)
    theirs = nn.TransformerEncoderLayer(128, 2, 512, 0.0, nn.GELU(), batch_first=True, norm_first=True)
    ours = TransformerBlock(128)
    copied(ours, theirs)
    x = torch.randn(2, 5, 128)
    torch.testing.assert_close(ours(x), theirs(x))


def test_tokens_without_positions_have_no_order() -> None:
    torch.manual_seed(0)
    transformer, x, order = Transformer(8, 2), torch.randn(1, 6, 8), torch.randperm(6)
    torch.testing.assert_close(transformer(x[:, order]), transformer(x)[:, order])


@pytest.mark.parametrize(("width", "heads"), [(8, 1), (64, 1), (127, 1), (128, 2), (192, 3), (200, 2), (768, 12)])
def test_heads_share_the_width_evenly(width: int, heads: int) -> None:
    assert heads_of(width) == heads


@settings(max_examples=20, deadline=None)
@given(height=st.integers(1, 9), width=st.integers(1, 9), quarter=st.integers(1, 6))
def test_positions_are_sines_and_cosines_of_row_and_column(height: int, width: int, quarter: int) -> None:
    table = positions((height, width), 4 * quarter, CPU).view(height, width, 4, quarter)
    for row in range(height):
        for column in range(width):
            for k in range(quarter):
                f = 10000 ** (-k / quarter)
                expected = [math.sin(row * f), math.cos(row * f), math.sin(column * f), math.cos(column * f)]
                torch.testing.assert_close(table[row, column, :, k], torch.tensor(expected), atol=1e-5, rtol=0)


def test_positions_tell_how_far_apart_cells_lie() -> None:
    table = positions((6, 7), 32, CPU).view(6, 7, 32)
    product = torch.einsum("abk,cdk->abcd", table, table)
    torch.testing.assert_close(product[0, 0, 2, 3], product[3, 2, 5, 5])
    torch.testing.assert_close(product[0, 0, 2, 3], product[5, 5, 3, 2])
    others = product[2, 3].flatten().sort(descending=True).values
    assert others[0] > others[1] + 0.1, "no other cell has the same position"
    assert torch.equal(positions((3, 4), 32, CPU), table[:3, :4].flatten(0, 1)), "a larger grid goes on"


def test_patches_become_tokens_as_by_a_convolution() -> None:
    torch.manual_seed(0)
    encoder = registry.part("encoders", "vit")(ImageSpec(3, 8, 12), width=8, depth=2, blocks=1)
    encoder.transformer = nn.Identity()
    x = torch.rand(2, 3, 8, 12)
    convolved = nn.functional.conv2d(x, encoder.embed.weight.view(8, 3, 4, 4), encoder.embed.bias, stride=4)
    expected = convolved.flatten(2).transpose(1, 2) + positions((2, 3), 8, CPU)
    torch.testing.assert_close(encoder(x)[0], expected)


def test_the_decoder_puts_pixels_where_the_encoder_takes_them() -> None:
    torch.manual_seed(0)
    image = ImageSpec(3, 8, 12)
    encoder = registry.part("encoders", "vit")(image, width=48, depth=2, blocks=1)
    decoder = registry.part("decoders", "vit")(image, 48, width=48, depth=2, blocks=1)
    encoder.transformer, decoder.transformer = nn.Identity(), nn.Identity()
    with torch.no_grad():
        for dense in (encoder.embed, decoder.widen, decoder.to_pixels):
            dense.weight.copy_(torch.eye(48))
            dense.bias.zero_()
    x = torch.rand(2, 3, 8, 12)
    tokens, grid = encoder(x)
    torch.testing.assert_close(decoder(tokens - 2 * positions(grid, 48, CPU), grid), x)


@pytest.mark.parametrize(
    ("side", "patch"), [(2, 2), (8, 2), (16, 2), (17, 4), (28, 4), (32, 4), (64, 8), (65, 16), (512, 16)]
)
def test_patches_go_by_the_size_of_the_images(side: int, patch: int) -> None:
    assert 2 ** patch_depth(ImageSpec(1, side, side + 3)) == patch


@pytest.mark.parametrize("patch", [3, 6, 32])
def test_patches_that_fit_nowhere_are_refused(patch: int) -> None:
    with pytest.raises(ApercuError, match=r"a power of two below the size of the images \(28×28\)"):
        build("mae", ImageSpec(1, 28, 28), 0, {"patch": patch})


def test_a_width_without_room_for_positions_is_refused() -> None:
    with pytest.raises(ApercuError, match="multiple of 4, not 30"):
        build("mae", ImageSpec(1, 28, 28), 0, {"width": 30})


@settings(max_examples=15, deadline=None)
@given(height=st.integers(1, 41), width=st.integers(1, 41), channels=st.integers(1, 4))
def test_mae_takes_any_size(height: int, width: int, channels: int) -> None:
    model = build("mae", ImageSpec(channels, 32, 32, uniform=False), 0, TINY)
    x = torch.rand(2, channels, height, width)
    for mode in (True, False):
        prices, output = model.train(mode).price(Batch(x, torch.tensor([-1, -1]), torch.arange(2)))
        assert output.pixels is not None
        assert output.pixels.mean.shape == x.shape
        assert output.code.grid == model.grid((height, width))
        assert all(price.isfinite().all() for price in prices.values())


@pytest.mark.parametrize("preset", ["ae", "vae", "vae_cnn", "vqvae"])
def test_other_presets_can_read_by_transformer(preset: str) -> None:
    torch.manual_seed(0)
    model = build(preset, ImageSpec(3, 18, 20), 3, {"encoder": "vit", "width": 8, "dim": 4})
    batch = Batch(torch.rand(4, 3, 18, 20), torch.tensor([0, 1, 2, -1]), torch.arange(4))
    prices, output = model.price(batch)
    assert output.pixels is not None
    assert output.pixels.mean.shape == batch.x.shape
    model.objective.total(prices).mean().backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]


@pytest.fixture(scope="module")
def trained() -> Model:
    return apercu.fit(shapes(120), preset="mae", settings=TINY | {"width": 32}, training=FAST)


def test_a_masked_model_is_fine_tuned_with_nothing_hidden(trained: Model, drawn: ImageSet) -> None:
    task = Classify(trained, method="finetune", epochs=20)
    task.fit(drawn.subset(range(100)))
    assert task.evaluate(drawn.subset(range(100, 200)))["accuracy"] > 0.8


def test_a_masked_model_generates_and_reconstructs(trained: Model, drawn: ImageSet) -> None:
    made = Generate(trained, count=3).draw(drawn)
    assert {name: pixels.shape for name, pixels in made.items()} == {"0": (3, 1, 16, 16), "1": (3, 1, 16, 16)}
    assert trained.reconstruct(drawn.subset(range(4))).shape == (4, 1, 16, 16)
    assert trained.encode(drawn.subset(range(4))).shape == (4, 64, 4)
