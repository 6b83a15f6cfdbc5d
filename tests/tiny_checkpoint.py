"""The shape of a wav2vec 2.0 checkpoint that is small enough to be made, served and trained in a test."""

SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 4,
    "conv_kernel": (20, 16, 8),
    "conv_stride": (10, 8, 4),
    "conv_dim": (8, 12, 16),
}
LAYER = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
SHAPE = {**SIZES, **LAYER, "vocab_size": 6}
