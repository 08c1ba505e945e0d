"""Status, Encrypt and Decrypt by grpcio, as kube-apiserver's own client would send them.

Called by tests/grpc/run with the directory of kms_v2.proto and the socket; prints JSON.
"""
import concurrent.futures
import importlib
import json
import os
import sys
import tempfile

import grpc
from grpc_tools import protoc

SECONDS = 10


def generated(proto):
    """Modules made from kms_v2.proto by Google's own compiler."""
    with tempfile.TemporaryDirectory() as out:
        if protoc.main(["protoc", "-I" + proto, "--python_out=" + out,
                        "--grpc_python_out=" + out, "kms_v2.proto"]):
            sys.exit("protoc refuses kms_v2.proto")
        sys.path.insert(0, out)
        return (importlib.import_module("kms_v2_pb2"),
                importlib.import_module("kms_v2_pb2_grpc"))


def refusal(call, request):
    """Code and text of a call that must fail."""
    try:
        call(request, timeout=SECONDS)
    except grpc.RpcError as e:
        return {"code": e.code().name, "text": e.details()}
    return {"code": "OK", "text": ""}


def main():
    proto, socket = sys.argv[1:]
    messages, services = generated(proto)
    # What kube-apiserver sends as :authority from 1.32 on.
    options = [("grpc.default_authority", "localhost")]
    with grpc.insecure_channel("unix:" + socket, options=options) as channel:
        kms = services.KeyManagementServiceStub(channel)
        status = kms.Status(messages.StatusRequest(), timeout=SECONDS)

        def round_trip(number):
            seed = os.urandom(32)
            wrapped = kms.Encrypt(messages.EncryptRequest(
                plaintext=seed, uid="grpcio-%d" % number), timeout=SECONDS)
            request = messages.DecryptRequest(
                ciphertext=wrapped.ciphertext, uid="grpcio-%d" % number,
                key_id=wrapped.key_id, annotations=wrapped.annotations)
            back = kms.Decrypt(request, timeout=SECONDS)
            return back.plaintext == seed, request

        with concurrent.futures.ThreadPoolExecutor(16) as threads:
            done = list(threads.map(round_trip, range(200)))
        request = done[0][1]
        damaged = messages.DecryptRequest()
        damaged.CopyFrom(request)
        damaged.ciphertext = damaged.ciphertext[:-1]
        unknown = messages.DecryptRequest()
        unknown.CopyFrom(request)
        unknown.key_id = "00000000-0000-4000-8000-000000000000"
        print(json.dumps({
            "status": {"version": status.version, "healthz": status.healthz,
                       "key_id": status.key_id},
            "round_trips": sum(same for same, _ in done),
            "ciphertext_bytes": len(request.ciphertext),
            "annotations": {k: len(v) for k, v in request.annotations.items()},
            "key_id": request.key_id,
            "damaged": refusal(kms.Decrypt, damaged),
            "unknown": refusal(kms.Decrypt, unknown),
            "long": refusal(kms.Encrypt, messages.EncryptRequest(plaintext=b"x" * 1009)),
        }, indent=1))


if __name__ == "__main__":
    main()
