"""What the CodeBuild projects run: one shell script each, safe to run again over what is there already.

The environment variables of a script are those that its project is given (images.py and
model_store.py); they run where the sources have been unpacked.
"""

from typing import Any, Final

PYTHON: Final = "3.12"
# What `containers.serving.publish` imports; the versions are those of the image for CPUs.
_PACKAGES: Final = "boto3|huggingface_hub|pillow|pydantic"

# The checksums are written last, so that a model with checksums is complete.
PUBLISH_MODEL: Final = f"""\
set -euo pipefail
sums="$MODEL_PREFIX/$MODEL/SHA256SUMS"
if aws s3api head-object --bucket "$MODEL_BUCKET" --key "$sums" > /dev/null 2>&1; then
  echo "s3://$MODEL_BUCKET/$sums is there already"
else
  grep --extended-regexp '^({_PACKAGES})==' containers/serving/requirements-cpu.txt > packages.txt
  pip install --quiet --requirement packages.txt
  if [ -n "${{MODEL_SOURCE:-}}" ]; then
    aws s3 cp --quiet --recursive "$MODEL_SOURCE/" model/
    export MODEL_DIRECTORY="$PWD/model"
  fi
  python -m containers.serving.publish
fi
"""

_LOGIN: Final = """\
aws ecr get-login-password | docker login --username AWS --password-stdin "${REPOSITORY_URI%%/*}"
"""

# Tags are immutable: when another build of the same sources was faster, its image serves as well.
BUILD_IMAGE: Final = f"""\
set -euo pipefail
built() {{
  aws ecr describe-images --repository-name "$REPOSITORY" --image-ids imageTag="$IMAGE_TAG" > /dev/null 2>&1
}}
if built; then
  echo "$REPOSITORY_URI:$IMAGE_TAG is there already"
else
  docker build --pull --file "$DOCKERFILE" --tag "$REPOSITORY_URI:$IMAGE_TAG" .
  {_LOGIN.strip()}
  docker push "$REPOSITORY_URI:$IMAGE_TAG" || built
fi
"""


# The container has the build's credentials: it reads weights from the model store, writes what it compiles
# there, and compiles nothing that is there already.
COMPILE_MODEL: Final = f"""\
set -euo pipefail
{_LOGIN.strip()}
docker run --rm --network host --entrypoint python \\
  --env AWS_CONTAINER_CREDENTIALS_RELATIVE_URI --env AWS_REGION --env AWS_DEFAULT_REGION \\
  --env MODEL --env MODEL_REVISION --env MODEL_BUCKET --env MODEL_PREFIX --env BACKEND --env SHAPES \\
  --env NEURON_ARTIFACTS_PREFIX --env NEURON_TARGET \\
  "$REPOSITORY_URI:$IMAGE_TAG" -m containers.serving.backends.neuron_compile
"""


def buildspec(script: str) -> dict[str, Any]:
    """The script as the one command of a build, run by bash, with Python at hand."""
    return {
        "version": "0.2",
        "env": {"shell": "bash"},
        "phases": {
            "install": {"runtime-versions": {"python": PYTHON}},
            "build": {"commands": [script]},
        },
    }
