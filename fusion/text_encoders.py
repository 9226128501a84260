"""Every text encoder that has a name of its own."""

from typing import Any

from fusion.record import TowerRecord

CLIP: dict[str, Any] = {"modality": "text", "loader": "open_clip", "dim": 512, "text_length": 77, "licence": "MIT"}
NO_DERIVATIVES: dict[str, Any] = {"licence": "CC-BY-NC-ND-4.0", "gated": True}

TEXT_TOWERS = (
    TowerRecord(
        name="bert-base-uncased",
        modality="text",
        loader="transformers",
        source="google-bert/bert-base-uncased",
        dim=768,
        text_length=128,
        pooling="pooler",
        licence="Apache-2.0",
        architecture={"model_type": "bert"},
    ),
    TowerRecord(
        name="tiny-text",
        modality="text",
        loader="transformers",
        source="bert",
        dim=128,
        text_length=64,
        pooling="pooler",
        licence="Apache-2.0",
        has_weights=False,
        architecture={
            "model_type": "bert",
            "hidden_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "intermediate_size": 256,
            "max_position_embeddings": 64,
        },
    ),
    TowerRecord(name="quiltnet-b-32", source="hf-hub:wisdomik/QuiltNet-B-32", **CLIP),
    TowerRecord(name="quiltnet-b-16", source="hf-hub:wisdomik/QuiltNet-B-16", **CLIP),
    TowerRecord(name="quiltnet-b-16-pmb", source="hf-hub:wisdomik/QuiltNet-B-16-PMB", **CLIP | {"text_length": 256}),
    TowerRecord(
        name="biomedclip",
        source="hf-hub:microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224",
        **CLIP | {"text_length": 256},
    ),
    TowerRecord(
        name="plip",
        source="vinid/plip",
        pooling="projection",
        **CLIP | {"loader": "transformers", "licence": "non-commercial"},
    ),
    TowerRecord(
        name="keep",
        modality="text",
        loader="transformers",
        source="Astaxanthin/KEEP",
        dim=768,
        text_length=256,
        pooling="projection",
        licence="MIT",
        remote_code=True,
    ),
    TowerRecord(
        name="conch",
        modality="text",
        loader="package",
        source="hf-hub:MahmoodLab/conch",
        dim=512,
        text_length=128,
        package="https://github.com/mahmoodlab/CONCH",
        **NO_DERIVATIVES,
    ),
    TowerRecord(
        name="musk",
        modality="text",
        loader="package",
        source="hf-hub:xiangjx/musk",
        dim=1024,
        text_length=100,
        package="https://github.com/lilab-stanford/MUSK",
        **NO_DERIVATIVES,
    ),
)
