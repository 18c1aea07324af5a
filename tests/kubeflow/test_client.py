"""Whom Kubeflow Pipelines lets in, and what is no endpoint of it."""

import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from fake_kfp import VOC, FakeKfp, refused, serving

Command = Callable[..., Result]


def test_the_token_is_sent(dkd: Command, kfp: FakeKfp, monkeypatch: pytest.MonkeyPatch) -> None:
    kfp.token = "secret"
    assert "asks to sign in: 401" in refused(dkd, "status")
    monkeypatch.setenv("DKD_KFP_TOKEN", "wrong")
    line = refused(dkd, "status")
    assert "the token was refused, or has expired: 401" in line
    assert "wrong" not in line
    kfp.refusal = 403
    assert "the token's account may not do this: 403" in refused(dkd, "status")
    Path("token").write_text("secret\n")
    monkeypatch.delenv("DKD_KFP_TOKEN")
    monkeypatch.setenv("DKD_KFP_TOKEN_FILE", "token")
    assert dkd("status").exit_code == 0
    monkeypatch.setenv("DKD_KFP_TOKEN_FILE", "gone")
    assert refused(dkd, "status") == "DKD_KFP_TOKEN_FILE=gone: No such file or directory"


def test_a_token_is_read_anew_for_every_call(
    dkd: Command, kfp: FakeKfp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cluster renews the one of a pod's account, a watched run takes days."""
    kfp.token = "first"
    Path("token").write_text("first\n")
    monkeypatch.setenv("DKD_KFP_TOKEN_FILE", "token")
    answer = kfp.answer

    def renew(method: str, path: str, query: Any, body: Any) -> Any:
        if path.startswith("v1beta1/runs/"):
            kfp.token += "+"
            Path("token").write_text(kfp.token)
        return answer(method, path, query, body)

    monkeypatch.setattr(kfp, "answer", renew)
    done = dkd("submit", *VOC, "--watch")
    assert done.exit_code == 0, done.output
    assert kfp.token.startswith("first+++")


def test_the_cookie_of_a_session_is_sent(
    dkd: Command, kfp: FakeKfp, monkeypatch: pytest.MonkeyPatch
) -> None:
    kfp.cookie = "authservice_session=secret"
    assert "asks to sign in: 302" in refused(dkd, "status")
    monkeypatch.setenv("DKD_KFP_COOKIE", "authservice_session=old")
    line = refused(dkd, "status")
    assert "was refused, or has expired: 302" in line
    assert "old" not in line
    monkeypatch.setenv("DKD_KFP_COOKIE", kfp.cookie)
    assert dkd("status").exit_code == 0


def test_whose_certificate_is_trusted(
    dkd: Command, kfp: FakeKfp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    name = "-subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1"
    made = ["openssl", *words.split(), *name.split(), "-keyout", "key", "-out", "certificate"]
    subprocess.run(made, check=True, capture_output=True)
    certificate = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.load_cert_chain("certificate", "key")
    with serving(kfp, certificate) as url:
        line = refused(dkd, "status", "--endpoint", url)
        assert "its certificate is not trusted here; let SSL_CERT_FILE name" in line
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "certificate"))
        assert dkd("status", "--endpoint", url).exit_code == 0


def test_what_is_no_endpoint_is_told(
    dkd: Command, kfp: FakeKfp, monkeypatch: pytest.MonkeyPatch
) -> None:
    kfp.page = b"<html>sign in</html>"
    assert "asks to sign in: 200" in refused(dkd, "status")
    kfp.page = b"hello"
    assert "answered 200, but not as Kubeflow Pipelines does" in refused(dkd, "status")
    kfp.page = None
    kfp.health["tag_name"] = "2.5.0"
    assert "Kubeflow Pipelines 2.5.0 is too old" in refused(dkd, "status")
    kfp.health = {"apiServerTagName": "2.4.1"}  # so the UI says it
    assert "Kubeflow Pipelines 2.4.1 is too old" in refused(dkd, "status")
    kfp.health = {"multi_user": False}
    assert "no namespace 'team-a'" in refused(dkd, "status", "--namespace", "team-a")
    kfp.health = {"multi_user": True}
    assert "name yours with --namespace" in refused(dkd, "status")
    assert dkd("status", "--namespace", "team-a").exit_code == 0
    monkeypatch.setenv("DKD_KFP_ENDPOINT", "http://127.0.0.1:9")
    assert "no answer from Kubeflow Pipelines" in refused(dkd, "status")
    monkeypatch.delenv("DKD_KFP_ENDPOINT")
    assert refused(dkd, "status").startswith("--endpoint: say where Kubeflow Pipelines is")
