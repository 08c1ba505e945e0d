"""Serve Keystone or Barbican on 127.0.0.1; started by deploy.py.

The parent process imports the server's code, prepares its database and keeps
the port reserved. A forked child serves (cheroot: threads, keep-alive, TLS), so
that closing and reopening the port costs no second import.

Signals to the parent, whose pid is also its process group:
  TERM, INT  end both
  USR1       kill the child: connections are refused from now on
  USR2       fork a new child, which reads the configuration again
STOP and CONT to the group freeze and thaw the server.
"""
import argparse
import ctypes
import os
import shutil
import signal
import socket
import ssl
import sys
import time
import traceback
import warnings

SIGNALS = {signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGUSR1,
           signal.SIGUSR2}
PR_SET_PDEATHSIG = 1


class Keystone:
    def __init__(self, args):
        self.args = args
        self.conf = os.path.join(args.dir, "keystone.conf")
        self.database = os.path.join(args.dir, "keystone.db")
        os.environ["OS_KEYSTONE_CONFIG_FILES"] = self.conf
        import keystone.server.flask.application  # noqa: F401
        import keystone.server.wsgi  # noqa: F401

    def manage(self, *args):
        from keystone.cmd import cli
        cli.main(argv=["keystone-manage", "--config-file", self.conf, *args])

    def migrate(self):
        self.manage("db_sync")

    def bootstrap(self):
        # The administrator's password is in OS_BOOTSTRAP_PASSWORD.
        url = self.args.url
        self.manage("bootstrap", "--bootstrap-region-id", "RegionOne",
                    "--bootstrap-public-url", url,
                    "--bootstrap-internal-url", url,
                    "--bootstrap-admin-url", url)

    def application(self):
        from keystone.wsgi.api import application
        return application


class Barbican:
    def __init__(self, args):
        self.args = args
        self.database = os.path.join(args.dir, "barbican.db")
        # Barbican reads ~/.barbican/barbican.conf when it is imported.
        os.environ["HOME"] = args.dir
        import barbican.api.app  # noqa: F401
        import barbican.api.controllers.versions  # noqa: F401

    def migrate(self):
        from barbican.model.migration import commands
        commands.upgrade()

    def bootstrap(self):
        pass

    def application(self):
        # The parent parsed the configuration at import; it may be newer now.
        from barbican.common import config
        from paste import deploy
        config.CONF.reload_config_files()
        return deploy.loadapp(
            "config:" + os.path.join(self.args.dir, "barbican-api-paste.ini"))


def fork(work):
    """Run work() in a child that ends with its parent; return the pid."""
    parent = os.getpid()
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == parent:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
            work()
            code = 0
    except SystemExit as e:
        code = e.code if isinstance(e.code, int) else int(e.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def in_child(what, work):
    """Run a step of the set-up where it cannot touch the parent's state."""
    began = time.monotonic()
    if os.waitpid(fork(work), 0)[1] != 0:
        sys.exit("%s failed" % what)
    print("%s: %.1f s" % (what, time.monotonic() - began), flush=True)


def set_up(server, template):
    """Make the database, from the template of an earlier run if there is one.

    A migrated, still empty database depends on nothing but the version of the
    packages, so the first run leaves a copy beside them for the later ones.
    """
    if os.path.exists(template):
        shutil.copyfile(template, server.database)
    else:
        if os.path.exists(server.database):
            os.remove(server.database)
        in_child("migrations", server.migrate)
        os.makedirs(os.path.dirname(template), exist_ok=True)
        mine = "%s.%d" % (template, os.getpid())
        shutil.copyfile(server.database, mine)
        os.replace(mine, template)
    in_child("bootstrap", server.bootstrap)


def wait_for_the_database():
    """Let transactions on SQLite wait for each other.

    One that reads first and then writes is refused at once ("database is locked") when
    another one wrote in between, and Keystone answers 500 to a good password. Who takes
    the lock for writing when a transaction begins waits for it instead.
    """
    import sqlalchemy

    @sqlalchemy.event.listens_for(sqlalchemy.engine.Engine, "connect")
    def busy_timeout(connection, _record):
        connection.execute("PRAGMA busy_timeout = 60000")

    @sqlalchemy.event.listens_for(
        sqlalchemy.engine.Engine, "before_cursor_execute", retval=True)
    def immediately(_connection, _cursor, statement, parameters, *_):
        return ("BEGIN IMMEDIATE" if statement == "BEGIN" else statement), parameters


def serve(server, args):
    wait_for_the_database()
    # Load first, listen afterwards: an open port means a ready server.
    from cheroot.wsgi import Server
    http = Server(("127.0.0.1", args.port), server.application(),
                  numthreads=args.threads, request_queue_size=128, timeout=60)
    if args.cert:
        from cheroot.ssl.builtin import BuiltinSSLAdapter
        http.ssl_adapter = BuiltinSSLAdapter(args.cert, args.key)
        if args.client_ca:
            context = http.ssl_adapter.context
            context.load_verify_locations(args.client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
    http.prepare()
    print("ready on port %d, child %d" % (args.port, os.getpid()), flush=True)
    http.serve()


def watch(max_seconds):
    """End this process group in time, even if it is frozen then."""
    group = os.getpid()

    def wait():
        os.setsid()
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGUSR1)
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        if os.getppid() != group:
            return
        if not signal.sigtimedwait({signal.SIGUSR1, signal.SIGTERM}, max_seconds):
            print("ended after %s s" % max_seconds, flush=True)
            os.killpg(group, signal.SIGKILL)

    return fork(wait)


def supervise(start, watcher):
    child = fork(start)
    while True:
        sig = signal.sigwait(SIGNALS)
        if sig == signal.SIGCHLD:
            for pid in (child, watcher):
                if pid and os.waitpid(pid, os.WNOHANG)[0]:
                    sys.exit("a child ended by itself")
        elif sig == signal.SIGUSR2:
            child = child or fork(start)
        else:
            if child:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                child = None
                print("port closed", flush=True)
            if sig != signal.SIGUSR1:
                return


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("name", choices=["keystone", "barbican"])
    parser.add_argument("--dir", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--url", required=True)
    parser.add_argument("--template", required=True)
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--cert")
    parser.add_argument("--key")
    parser.add_argument("--client-ca", help="refuse clients without a certificate")
    parser.add_argument("--max-seconds", type=float, required=True)
    args = parser.parse_args()
    # Keystone hands sys.argv to oslo.config when its WSGI module is loaded.
    sys.argv = [args.name]

    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    watcher = watch(args.max_seconds)
    # Bound but not listening: refuses connections, and nobody else gets it.
    reserved = socket.socket()
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    reserved.bind(("127.0.0.1", args.port))

    warnings.simplefilter("ignore")
    server = (Keystone if args.name == "keystone" else Barbican)(args)
    print("imports: %.1f s of CPU time" % time.process_time(), flush=True)
    done = os.path.join(args.dir, "setup.done")
    if not os.path.exists(done):
        set_up(server, args.template)
        open(done, "w").close()
    supervise(lambda: serve(server, args), watcher)


if __name__ == "__main__":
    main()
