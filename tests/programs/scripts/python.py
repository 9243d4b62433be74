"""What Python programs really do."""

import asyncio
import concurrent.futures
import errno
import fcntl
import glob
import hashlib
import io
import json
import mmap
import multiprocessing
import os
import pathlib
import queue
import random
import select
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
import time
import zipfile

print("subprocess")
print(subprocess.run(["echo", "hello"], capture_output=True, text=True).stdout, end="")
print(subprocess.run("cat; exit 3", shell=True, input=b"data", stdout=subprocess.PIPE))
print(subprocess.run(["sh", "-c", "kill -9 $$"]).returncode)
try:
    subprocess.run(["no-such-program"])
except FileNotFoundError as error:
    print(error)
try:
    subprocess.run(["sleep", "10"], timeout=0.2)
except subprocess.TimeoutExpired as error:
    print(error.cmd)
try:
    subprocess.check_output(["sh", "-c", "exit 5"])
except subprocess.CalledProcessError as error:
    print(error)
with subprocess.Popen(["sort"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
    print(process.communicate("b\na\nc\n")[0].split())
first = subprocess.Popen(["seq", "1", "1000"], stdout=subprocess.PIPE)
second = subprocess.Popen(["grep", "-c", "9"], stdin=first.stdout, stdout=subprocess.PIPE)
first.stdout.close()
print(second.communicate()[0], first.wait())
print(
    subprocess.run(
        [sys.executable, "-c", "import os; print(os.getcwd() == '/', os.environ['A'])"],
        cwd="/",
        env={"A": "b"},
        capture_output=True,
    ).stdout
)
print(subprocess.run(["true"], preexec_fn=lambda: os.nice(1), start_new_session=True).returncode)
big = subprocess.run(["cat"], input=b"x" * 3_000_000, capture_output=True).stdout
print(len(big), hashlib.sha256(big).hexdigest()[:16])

print("threads")
total, lock = 0, threading.Lock()


def add():
    global total
    for _ in range(2000):
        with lock:
            total += 1


threads = [threading.Thread(target=add) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(total)
work: queue.Queue = queue.Queue()
results = []


def worker():
    while (item := work.get()) is not None:
        results.append(item * item)
        work.task_done()


threads = [threading.Thread(target=worker) for _ in range(4)]
for thread in threads:
    thread.start()
for i in range(100):
    work.put(i)
work.join()
for _ in threads:
    work.put(None)
for thread in threads:
    thread.join()
print(sum(results))
event = threading.Event()
threading.Timer(0.05, event.set).start()
print(event.wait(5), threading.Event().wait(0.05))
with concurrent.futures.ThreadPoolExecutor(4) as pool:
    print(sum(pool.map(lambda n: n + 1, range(50))))

print("multiprocessing")


def square(n):
    return n * n


def produce(channel):
    for i in range(5):
        channel.put((i, os.getpid() != os.getppid()))


if __name__ == "__main__":
    with multiprocessing.Pool(3) as pool:
        print(pool.map(square, range(20)))
    channel = multiprocessing.Queue()
    child = multiprocessing.Process(target=produce, args=(channel,))
    child.start()
    print([channel.get(timeout=10) for _ in range(5)])
    child.join()
    print(child.exitcode)
    value = multiprocessing.Value("i", 0)

    def bump():
        for _ in range(200):
            with value.get_lock():
                value.value += 1

    context = multiprocessing.get_context("fork")
    children = [context.Process(target=bump) for _ in range(4)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    print(value.value)
    spawned = multiprocessing.get_context("spawn")
    ours, theirs = multiprocessing.Pipe()
    ours.send({"a": [1, 2]})
    print(theirs.recv())
    with concurrent.futures.ProcessPoolExecutor(2) as pool:
        print(list(pool.map(square, [7, 8, 9])))

    print("sqlite")
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "test.db")
        database = sqlite3.connect(path)
        database.execute("create table t (id integer primary key, name text)")
        with database:
            database.executemany("insert into t (name) values (?)", [(f"name{i}",) for i in range(500)])
        print(database.execute("select count(*), max(name) from t").fetchone())
        other = sqlite3.connect(path, timeout=0.1)
        database.execute("begin immediate")
        try:
            other.execute("begin immediate")
        except sqlite3.OperationalError as error:
            print(error)
        database.rollback()
        print(database.execute("pragma journal_mode=wal").fetchone())
        with database:
            database.execute("delete from t where id > 100")
        print(other.execute("select count(*) from t").fetchone(), database.execute("pragma integrity_check").fetchone())
        database.execute("vacuum")
        database.close()
        other.close()

    print("files")
    with tempfile.TemporaryDirectory() as directory:
        root = pathlib.Path(directory)
        (root / "a" / "b").mkdir(parents=True)
        for i in range(10):
            (root / "a" / f"{i}.txt").write_text(f"file {i}\n" * i)
        print(sorted(path.name for path in root.rglob("*")))
        print(len(glob.glob(str(root / "a" / "[0-4].txt"))), sum(len(f) for _, _, f in os.walk(root)))
        shutil.copytree(root / "a", root / "copy")
        shutil.make_archive(str(root / "archive"), "zip", root / "copy")
        print(sorted(zipfile.ZipFile(root / "archive.zip").namelist())[:3])
        os.rename(root / "copy", root / "moved")
        os.symlink("moved", root / "link")
        print((root / "link").resolve().name, os.path.islink(root / "link"))
        os.chmod(root / "a" / "1.txt", 0o640)
        print(stat.filemode((root / "a" / "1.txt").stat().st_mode))
        with open(root / "map", "w+b") as file:
            file.truncate(8192)
            with mmap.mmap(file.fileno(), 8192) as area:
                area[4096:4101] = b"hello"
            file.seek(4096)
            print(file.read(5))
        with open(root / "lock", "w") as a, open(root / "lock", "w") as b:
            fcntl.flock(a, fcntl.LOCK_EX)
            try:
                fcntl.flock(b, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                print(errno.errorcode[error.errno])
        with tempfile.NamedTemporaryFile() as file:
            file.write(b"x" * 100000)
            file.flush()
            print(os.path.getsize(file.name))
        with tempfile.TemporaryFile() as file:
            file.write(b"gone")
            file.seek(0)
            print(file.read())
        fd = os.open(directory, os.O_RDONLY)
        print(sorted(entry.name for entry in os.scandir(fd)))
        print(os.stat("moved", dir_fd=fd).st_mode == os.stat(root / "moved").st_mode)
        os.close(fd)
        for bad in (
            lambda: open("/nowhere/x"),
            lambda: os.rmdir(root),
            lambda: os.listdir(root / "map"),
            lambda: os.mkdir(root),
        ):
            try:
                bad()
            except OSError as error:
                print(errno.errorcode[error.errno])

    print("signals and processes")
    seen = []
    signal.signal(signal.SIGUSR1, lambda number, frame: seen.append(number))
    os.kill(os.getpid(), signal.SIGUSR1)
    print(seen)
    signal.signal(signal.SIGALRM, lambda number, frame: seen.append("alarm"))
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    time.sleep(0.2)
    print(seen[1:])
    pid = os.fork()
    if pid == 0:
        os._exit(17)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    pid = os.posix_spawn("/bin/sh", ["sh", "-c", "exit 4"], os.environ)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    read_end, write_end = os.pipe()
    if os.fork() == 0:
        os.write(write_end, b"from the child")
        os._exit(0)
    print(select.select([read_end], [], [], 5)[0] == [read_end], os.read(read_end, 100))
    os.wait()
    poller = select.epoll()
    poller.register(read_end, select.EPOLLIN)
    os.write(write_end, b"x")
    print(poller.poll(1)[0][1])
    try:
        signal.raise_signal(signal.SIGINT)
        time.sleep(1)
    except KeyboardInterrupt:
        print("interrupted")

    print("asyncio")

    async def main():
        async def tick(n):
            await asyncio.sleep(0.01 * n)
            return n

        print(await asyncio.gather(*(tick(n) for n in (3, 1, 2))))
        process = await asyncio.create_subprocess_exec("echo", "async", stdout=asyncio.subprocess.PIPE)
        print((await process.communicate())[0], process.returncode)
        loop = asyncio.get_running_loop()
        print(await loop.run_in_executor(None, square, 12))
        try:
            await asyncio.wait_for(asyncio.sleep(10), 0.05)
        except asyncio.TimeoutError:
            print("timed out")

    if os.environ.get("RVISOR_TEST_ASYNCIO", "1") == "1":
        asyncio.run(main())

    print("the rest")
    random.seed(5)
    print(random.randrange(1000), len(os.urandom(20)), json.dumps({"b": [1, None]}, sort_keys=True))
    print(io.BytesIO(b"abc").read(2), os.getcwd() == os.path.realpath("."), os.cpu_count() > 0, time.time() > 1.6e9)
    sys.exit(0)
