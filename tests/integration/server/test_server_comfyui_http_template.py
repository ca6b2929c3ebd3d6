"""An installation told by its settings alone of a ComfyUI at home and of providers in files: from upload to result."""

from __future__ import annotations

import io
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from PIL import Image
from served import Served, a_key, client, until

from safelight.emulators.serve import Address, running
from safelight.emulators.settings import EmulatorSettings
from safelight.providers.comfyui import WorkflowError
from safelight.server.offer import Offer
from safelight.server.settings import Settings

WORKFLOWS = Path(__file__).parents[1] / "providers" / "comfyui_workflows"
TOKEN = "what stands before it"


@pytest.fixture(scope="module")
def emulators() -> Iterator[Address]:
    with running(EmulatorSettings(image_latency_s=0.1, media_threads=1, comfyui_token=TOKEN)) as address:
        yield address


@pytest.fixture
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="safelight-comfyui-"))
    path.chmod(0o755)  # as root, the database's own account must reach it
    yield path
    shutil.rmtree(path, ignore_errors=True)


def completed(api: httpx.Client, project: str, **given: object) -> dict:
    job = api.post(f"/v1/projects/{project}/jobs", json=given).raise_for_status().json()["id"]

    def look() -> dict | None:
        found = api.get(f"/v1/jobs/{job}").raise_for_status().json()
        return found if found["status"] in ("completed", "failed", "canceled") else None

    found = until(look, f"job {job} to end")
    assert found["status"] == "completed", found["error"]
    return found


def result(api: httpx.Client, project: str, job: dict) -> Image.Image:
    (generation,) = job["generations"]
    listed = (
        api.post(f"/v1/projects/{project}/generations/by-ids", json={"ids": [generation]}).raise_for_status().json()
    )
    return Image.open(io.BytesIO(api.get(listed["items"][0]["urls"]["original"]).raise_for_status().content))


def test_a_start_image_goes_to_the_server_at_home_and_its_picture_comes_back(folder: Path, emulators: Address) -> None:
    served = Served(
        folder / "data",
        SAFELIGHT_COMFYUI_URL=emulators.comfyui_url,
        SAFELIGHT_COMFYUI_WORKFLOWS=str(WORKFLOWS),
        SAFELIGHT_COMFYUI_HEADERS=f'{{"authorization": "Bearer {TOKEN}"}}',
        SAFELIGHT_PROVIDERS="luma,runway",
        LUMAAI_API_KEY="a key",
        LUMAAI_BASE_URL=emulators.luma_url,
    ).start()
    try:
        served.ready()
        api = client(served.url, a_key(served.data))
        models = {each["id"]: each for each in api.get("/v1/models").raise_for_status().json()["items"]}
        assert models["comfyui/portrait"]["price"] == {"unit": "picture", "amount": 5}
        assert models["comfyui/restyle"]["needs_start"]
        assert "luma/photon-1" in models

        project = api.post("/v1/projects", json={"name": "A"}).raise_for_status().json()["id"]
        api.post(f"/v1/projects/{project}/credits/grants", json={"amount": 1000, "key": "a"}).raise_for_status()
        file = io.BytesIO()
        Image.effect_noise((64, 64), 80).convert("RGB").save(file, "png")
        told = {"bytes": file.tell(), "filename": "start.png", "mime": "image/png"}
        upload = api.post(f"/v1/projects/{project}/uploads", json=told).raise_for_status().json()
        api.put(upload["upload"]["url"], content=file.getvalue()).raise_for_status()

        drawn = completed(api, project, model="comfyui/portrait", input={"prompt": "a fox"})
        assert result(api, project, drawn).size == (128, 96)
        styled = completed(api, project, model="comfyui/restyle", input={"prompt": "as a fresco"}, start=upload["id"])
        assert result(api, project, styled).format == "PNG"

        # The address of ComfyUI was allowed by its own setting; that allows nobody else's result from this network.
        job = {"model": "luma/photon-1", "input": {"prompt": "a fox"}}
        refused = api.post(f"/v1/projects/{project}/jobs", json=job).raise_for_status().json()["id"]
        ended = until(
            lambda: (
                found if (found := api.get(f"/v1/jobs/{refused}").json())["status"] in ("failed", "completed") else None
            ),
            "the private result to be refused",
        )
        assert ended["error"]["code"] == "private_address"
        balance = api.get(f"/v1/projects/{project}/credits").raise_for_status().json()
        assert (balance["balance"], balance["held"]) == (990, 0)
    finally:
        served.clean_up()


def test_a_mistake_in_a_providers_file_stops_the_start_with_its_line(folder: Path) -> None:
    (folder / "house.toml").write_text('name = "house"\napi = "https://api.house.example"\n\n[submit]\npth = "/"\n')
    served = Served(folder / "data", SAFELIGHT_PROVIDERS=str(folder)).start()
    try:
        assert served.ended() == 2
        assert served.said() == f"{folder}/house.toml, line 5, submit.pth: there is no such field.\n"
    finally:
        served.clean_up()


def test_an_address_that_is_none_stops_the_start_too(folder: Path) -> None:
    with pytest.raises(WorkflowError, match="SAFELIGHT_COMFYUI_URL: it is http"):
        Offer.read(Settings(comfyui_url="127.0.0.1:8188", data=folder))
