"""A process that has modules loaded, and forks a child for each script that it is asked to run.

A new process would take seconds to import a framework.
"""

import gc
import json
import os
import runpy
import signal
import subprocess
import sys
from contextlib import suppress
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).parents[2]


class ForkServer:
    """The server, as the tests use it."""

    def __init__(self):
        command = [sys.executable, "-m", "tests.integrations.fork_server"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self._process = subprocess.Popen(command, cwd=ROOT, **pipes)
        self._pids = []

    def load(self, *modules):
        """Import the modules that the next scripts use."""
        self._ask({"load": modules})

    def run(self, script, *arguments, expecting=0, **environment):
        """Run a script in its folder, and return its output."""
        return self.wait(self.start(script, *arguments, **environment), expecting)

    def start(self, script, *arguments, **environment):
        """Start a script in its folder; return its process id."""
        job = [str(script), list(map(str, arguments)), environment]
        pid = self._ask({"start": job})
        self._pids.append(pid)
        return pid

    def wait(self, pid, expecting=0):
        """Wait for the end of a script, check how it ended, and return its output."""
        status, output = self._ask({"wait": pid})
        self._pids.remove(pid)
        assert status == expecting, output
        return output

    def close(self):
        for pid in self._pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()

    def _ask(self, question):
        print(json.dumps(question), file=self._process.stdin, flush=True)
        return json.loads(self._process.stdout.readline())


def serve():
    """Answer the questions of the input; in a child, return after its script."""
    outputs = {}
    for line in sys.stdin:
        question = json.loads(line)
        if "load" in question:
            answer = [import_module(name).__name__ for name in question["load"]]
            gc.freeze()  # so that the end of a fork does not collect the frameworks
        elif "wait" in question:
            pid = question["wait"]
            _, status = os.waitpid(pid, 0)
            answer = [os.waitstatus_to_exitcode(status), outputs[pid].read_text()]
        else:
            script, arguments, environment = question["start"]
            output = Path(f"{script}.{len(outputs)}.output")
            answer = os.fork()
            if answer == 0:
                run(script, arguments, environment, output)
                return
            outputs[answer] = output
        print(json.dumps(answer), flush=True)


def run(script, arguments, environment, output):
    """Run a script as a new process would."""
    for stream in (1, 2):
        os.dup2(os.open(output, os.O_WRONLY | os.O_APPEND | os.O_CREAT), stream)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.chdir(Path(script).parent)
    os.environ.update(environment)
    sys.argv = [script, *arguments]
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    serve()
