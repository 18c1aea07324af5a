"""Both images by digest, as an ordinary user with a read-only root: ``dkd doctor`` inside."""

import json

import pytest
import yaml
from commands import get, kubectl, wait_until
from namespaces import ROOT


@pytest.mark.parametrize("user", [10001, 4321])
@pytest.mark.parametrize("image", ["training", "launcher"])
def test_doctor(
    image: str, user: int, smoke: str, store: str, request: pytest.FixtureRequest
) -> None:
    reference = request.getfixturevalue(f"{image}_image")
    assert "@sha256:" in reference
    pod = yaml.safe_load((ROOT / "k8s/doctor.yaml").read_text())
    (container,) = pod["spec"]["containers"]
    container["image"] = reference
    container["command"] = ["dkd", "doctor", "--root", f"{store}/doctor"]
    pod["spec"]["securityContext"]["runAsUser"] = user
    made = json.loads(
        kubectl("create", "-n", smoke, "-o", "json", "-f", "-", stdin=json.dumps(pod))
    )
    name = made["metadata"]["name"]

    def ended() -> str | None:
        found = get("pod", name, smoke)
        phase = found["status"].get("phase") if found else "gone"
        return phase if phase in ("Succeeded", "Failed", "gone") else None

    phase = wait_until(ended, 600, "dkd doctor")  # the first pull of the image included
    log = kubectl("logs", name, "-n", smoke)
    print(log)
    assert phase == "Succeeded", log
    assert f"user {user}" in log
    assert "written, read and deleted in" in log
    assert ("torch 2." in log) == (image == "training")
    assert ("kubernetes " in log) == (image == "launcher")
    assert len(log.splitlines()) <= 24
    kubectl("delete", "pod", name, "-n", smoke, "--wait=false")
