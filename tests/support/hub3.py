"""Small models of keras_hub, as its own tests build them, and what they are fitted to.

keras_hub is imported where a model is built: tests skip them where it is not installed.
"""

import numpy as np

WORDS, LENGTH = 20, 6
_SIZES = {"num_layers": 2, "num_heads": 2, "hidden_dim": 8, "intermediate_dim": 16}
_QUERIES = {"num_layers": 2, "num_query_heads": 4, "hidden_dim": 8, "intermediate_dim": 16}


def _models():
    import keras_hub
    return keras_hub.models


def tokens():
    draw = np.random.default_rng(3)
    return {"token_ids": draw.integers(1, WORDS, (8, LENGTH)),
            "padding_mask": np.arange(LENGTH) < draw.integers(2, LENGTH + 1, (8, 1))}


def segments():
    return {**tokens(), "segment_ids": np.zeros((8, LENGTH), int)}


def pairs():
    """What an encoder reads, and a decoder."""
    return {f"{part}_{name}": value for part in ("encoder", "decoder")
            for name, value in tokens().items()}


def sounds():
    draw = np.random.default_rng(3)
    return {"encoder_features": draw.normal(size=(8, LENGTH, 4)).astype(np.float32),
            **{f"decoder_{name}": value for name, value in tokens().items()}}


def next_words():
    return np.roll(tokens()["token_ids"], -1, axis=1)


def classes():
    return np.arange(8) % 3


def bert():
    return _models().BertBackbone(WORDS, **_SIZES, max_sequence_length=LENGTH)


def bert_with_lora():
    model = bert()
    model.enable_lora(2)
    return model


def bert_classifier():
    return _models().BertTextClassifier(bert(), num_classes=3, preprocessor=None)


def gpt2():
    backbone = _models().GPT2Backbone(WORDS, **_SIZES, max_sequence_length=LENGTH)
    return _models().GPT2CausalLM(backbone, preprocessor=None)


def llama():
    backbone = _models().LlamaBackbone(WORDS, **_QUERIES, num_key_value_heads=2)
    return _models().LlamaCausalLM(backbone, preprocessor=None)


def gemma():
    backbone = _models().GemmaBackbone(WORDS, **_QUERIES, num_key_value_heads=1, head_dim=4)
    return _models().GemmaCausalLM(backbone, preprocessor=None)


def mixtral():
    return _models().MixtralBackbone(WORDS, **_QUERIES, num_key_value_heads=2, num_experts=3,
                                     top_k=2)


def t5():
    return _models().T5Backbone(WORDS, **_SIZES)


def whisper():
    return _models().WhisperBackbone(WORDS, **_SIZES, num_mels=4,
                                     max_encoder_sequence_length=LENGTH,
                                     max_decoder_sequence_length=LENGTH)


def vit():
    return _models().ViTBackbone(image_shape=(8, 8, 3), patch_size=(4, 4), num_layers=2,
                                 num_heads=2, hidden_dim=8, mlp_dim=16)


def vit_classifier():
    return _models().ViTImageClassifier(vit(), num_classes=3, preprocessor=None)


def resnet():
    return _models().ResNetBackbone(
        input_conv_filters=[64], input_conv_kernel_sizes=[3], stackwise_num_filters=[64, 8],
        stackwise_num_blocks=[1, 1], stackwise_num_strides=[1, 2], block_type="basic_block",
        image_shape=(16, 16, 3))


def segformer():
    return _models().MiTBackbone(
        layerwise_depths=[1, 1], num_layers=2, layerwise_num_heads=[1, 2],
        layerwise_sr_ratios=[2, 1], max_drop_path_rate=0.1, layerwise_patch_sizes=[7, 3],
        layerwise_strides=[4, 2], image_shape=(32, 32, 3), hidden_dims=[8, 8])
