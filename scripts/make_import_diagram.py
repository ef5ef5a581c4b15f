"""Draw who imports whom into docs/design.md: `python scripts/make_import_diagram.py`.

Arrows that follow from others are left out: viewers import latents and latents import figures, so no arrow leads from
viewers to figures. "the models" are causal_conv, gaussian, spatial_vae, temporal_vae, video_vae, streaming and
magvit_v2.
"""

import ast
import re
from pathlib import Path

import networkx

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "vae_lab"
PAGE = ROOT / "docs" / "design.md"
MODELS = ("causal_conv", "gaussian", "spatial_vae", "temporal_vae", "video_vae", "streaming", "magvit_v2")
# Modules of the subpackage `generation` that know no VAE
FLOW = ("rectified_flow", "stdit", "diffusers_transformers")
PROMPTS = ("judge", "prompted_clips", "prompts")
TITLES = {"models": "the models", "model_probes": "probes.causality, probes.report"}
TITLES |= {"flow": "generation.stdit, generation.rectified_flow", "prompts": "generation.prompts, generation.judge"}
BLOCK = re.compile(r"```mermaid\n.*?```\n", re.S)


def room(module: tuple[str, ...]) -> str:
    """The node of the diagram that a module, as the parts of its path, belongs to."""
    if module[:2] in (("probes", "causality"), ("probes", "report")):
        return "model_probes"
    for node, names in (("flow", FLOW), ("prompts", PROMPTS)):
        if module[0] == "generation" and module[-1] in names:
            return node
    return "models" if module[0] in MODELS else module[0]


def imports() -> networkx.DiGraph:
    """An arrow from each node to each other node that it imports from. `__init__` and `__main__` are left out."""
    graph = networkx.DiGraph()
    for path in PACKAGE.rglob("*.py"):
        module = path.relative_to(PACKAGE).with_suffix("").parts
        if module[-1] in ("__init__", "__main__"):
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.ImportFrom) or not node.level:
                continue
            base = module[: -node.level] + tuple(node.module.split(".") if node.module else ())
            for target in [base] if node.module else [(*base, alias.name) for alias in node.names]:
                if room(module) != room(target):
                    graph.add_edge(room(module), room(target))
    return graph


def diagram() -> str:
    """The diagram as Mermaid, which GitHub draws."""
    graph = networkx.transitive_reduction(imports())
    nodes = [f'  {node}["{TITLES.get(node, node)}"]' for node in sorted(graph)]
    arrows = [f"  {a} --> {b}" for a, b in sorted(graph.edges)]
    return "\n".join(["```mermaid", "flowchart TD", *nodes, *arrows, "```", ""])


if __name__ == "__main__":
    PAGE.write_text(BLOCK.sub(lambda _: diagram(), PAGE.read_text("utf-8"), count=1), "utf-8")
    print(f"wrote {PAGE.relative_to(ROOT)}")
