"""deploy/ray/rayservice.yaml holds deploy/ray/serve.yaml: python -m deploy.ray.manifest puts it there anew."""

import re
from pathlib import Path

import yaml

FOLDER = Path(__file__).resolve().parent
CONFIG, MANIFEST = FOLDER / "serve.yaml", FOLDER / "rayservice.yaml"
_BLOCK = re.compile(r"(?m)^  serveConfigV2: \|\n(?:    .*\n|\n)*")


class _Plain(yaml.SafeDumper):
    """Without anchors: KubeRay reads the text with a parser of its own."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def rendered(manifest: str, config: str) -> str:
    """The manifest with `config` as its serveConfigV2."""
    text = yaml.dump(yaml.safe_load(config), Dumper=_Plain, sort_keys=False, width=120)
    block = "".join(f"    {line}\n" for line in text.splitlines())
    return _BLOCK.sub(lambda _: f"  serveConfigV2: |\n{block}", manifest, count=1)


if __name__ == "__main__":
    MANIFEST.write_text(rendered(MANIFEST.read_text(), CONFIG.read_text()))
    print(f"{MANIFEST.name} holds {CONFIG.name}")
