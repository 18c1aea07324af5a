#!/usr/bin/env bash
# Builds the images, pushes them and writes their names by digest to build/images/.
#
#     docker/build.sh REGISTRY [argument of the build...]
#
# For example `docker/build.sh localhost:5000 --build-arg BASE=localhost:5000/debian:12`. Needs
# buildah, or podman, or docker (the first that is found).
set -euo pipefail
cd "$(dirname "$0")/.."
registry=${1:?name the registry, e.g. localhost:5000}
shift
for tool in buildah podman docker; do command -v $tool >/dev/null && break; done
options=() insecure=()
if [ "$tool" != docker ]; then
  options=(--layers)
  case $registry in localhost*|127.*) options+=(--tls-verify=false) insecure=(--tls-verify=false) ;; esac
fi
mkdir -p build/images
for image in training launcher serving; do
  name=$registry/dkd-$image:$(sed -n 's/^__version__ = "\(.*\)"/\1/p' src/dkd/__init__.py)
  $tool build -f docker/$image/Dockerfile -t "$name" "${options[@]}" \
    --build-arg VERSION="${name##*:}" --build-arg REVISION="$(git rev-parse HEAD 2>/dev/null || echo unknown)" \
    "$@" . >build/images/$image.log 2>&1 || { tail -20 build/images/$image.log >&2; exit 1; }
  if [ "$tool" = docker ]; then
    docker push -q "$name" >/dev/null
    docker inspect --format '{{index .RepoDigests 0}}' "$name" >build/images/$image
  else
    $tool push -q "${insecure[@]}" --digestfile build/images/$image.digest "$name" "docker://$name"
    echo "${name%:*}@$(cat build/images/$image.digest)" >build/images/$image
  fi
  echo "$(cat build/images/$image)"
done
