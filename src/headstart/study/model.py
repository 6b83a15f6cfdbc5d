"""`model`: the shape of encoders that start from random weights."""

from __future__ import annotations

from pydantic import Field, model_validator

from headstart.study.fields import Count, Layers, Settings


class Model(Settings):
    """Shape of encoders that start from random weights: transformers' wav2vec 2.0 (layer-norm variant)."""

    hidden_size: Count = Field(192, description="Width of the Transformer.")
    layers: Count = Field(4, description="Transformer layers.")
    heads: Count = Field(3, description="Attention heads.")
    intermediate_size: Count = Field(768, description="Width of the feed-forward layers.")
    conv_dim: Layers = Field((160, 192), description="Channels of the convolutional front-end.")
    conv_kernel: Layers = Field(
        (400, 4), description="Kernels of the front-end. A first one of 200 samples or more begins as mel filters."
    )
    conv_stride: Layers = Field((160, 2), description="Strides of the front-end; 320 samples = 20 ms in all.")
    position_kernel: Count = Field(32, description="Kernel of the convolutional position embedding, in frames.")
    position_groups: Count = Field(16, description="Groups of the convolutional position embedding.")
    codebooks: Count = Field(2, description="Groups of the product quantiser.")
    codebook_entries: Count = Field(128, description="Entries in each codebook.")
    codevector_size: Count = Field(128, description="Size of a quantised vector.")
    projection_size: Count = Field(128, description="Size in which context and quantised vectors are compared.")

    @model_validator(mode="after")
    def _shape(self) -> Model:
        if not len(self.conv_dim) == len(self.conv_kernel) == len(self.conv_stride):
            raise ValueError("conv_dim, conv_kernel and conv_stride must have one entry for each layer")
        if any(kernel < stride for kernel, stride in zip(self.conv_kernel, self.conv_stride, strict=True)):
            raise ValueError("each conv_kernel must be as long as its conv_stride, or samples are skipped")
        if len(self.conv_dim) < 2:
            raise ValueError("the front-end needs two layers or more")
        if self.hidden_size % self.heads:
            raise ValueError(f"hidden_size {self.hidden_size} is not a multiple of heads {self.heads}")
        if self.hidden_size % self.position_groups:
            raise ValueError(
                f"hidden_size {self.hidden_size} is not a multiple of position_groups {self.position_groups}"
            )
        if self.codevector_size % self.codebooks:
            raise ValueError(f"codevector_size {self.codevector_size} is not a multiple of codebooks {self.codebooks}")
        return self
