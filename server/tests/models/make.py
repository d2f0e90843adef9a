"""Makes the networks that the tests load, next to this file: `python make.py`, with PyPI's package onnx.

Each is small enough to be worked out by hand; `server/tests/http/models.rs` does.
"""

from pathlib import Path

from onnx import TensorProto, checker, helper, save

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
HERE = Path(__file__).parent


def value(name, kind, shape):
    return helper.make_tensor_value_info(name, kind, shape)


def number(name, content):
    return helper.make_tensor(name, FLOAT, [], [content])


def numbers(name, contents):
    return helper.make_tensor(name, INT64, [len(contents)], contents)


def write(name, nodes, inputs, outputs, constants):
    graph = helper.make_graph(nodes, name, inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    checker.check_model(model)
    save(model, HERE / f"{name}.onnx")


def speech():
    """Windows of 20 ms: the mean of their absolute value, smoothed by a memory, through a logistic curve."""
    node = helper.make_node
    nodes = [
        node("Abs", ["window"], ["size"]),
        node("ReduceMean", ["size"], ["level"], axes=[1], keepdims=1),
        node("Add", ["level", "before"], ["sum"]),
        node("Mul", ["sum", "half"], ["after"]),
        node("Mul", ["after", "slope"], ["steep"]),
        node("Sub", ["steep", "bias"], ["odds"]),
        node("Sigmoid", ["odds"], ["probability"]),
    ]
    inputs = [value("window", FLOAT, [1, 320]), value("before", FLOAT, [1, 1])]
    outputs = [value("probability", FLOAT, [1, 1]), value("after", FLOAT, [1, 1])]
    constants = [number("half", 0.5), number("slope", 40.0), number("bias", 2.0)]
    write("speech", nodes, inputs, outputs, constants)


def turn():
    """Any number of samples, and their rate: complete is what is quiet in the last 100 ms."""
    node = helper.make_node
    nodes = [
        node("Slice", ["sound", "from", "to", "axis"], ["last"]),
        node("Abs", ["last"], ["size"]),
        node("ReduceMax", ["size"], ["loudest"], axes=[1], keepdims=1),
        node("Sub", ["one", "loudest"], ["complete"]),
    ]
    inputs = [value("sound", FLOAT, [1, "samples"]), value("rate", INT64, [1])]
    outputs = [value("complete", FLOAT, [1, 1])]
    constants = [number("one", 1.0), numbers("from", [-1600]), numbers("to", [2**31]), numbers("axis", [1])]
    write("turn", nodes, inputs, outputs, constants)


def isolation():
    """Any number of samples, at half their level."""
    nodes = [helper.make_node("Mul", ["sound", "half"], ["isolated"])]
    shape = [1, "samples"]
    write("isolation", nodes, [value("sound", FLOAT, shape)], [value("isolated", FLOAT, shape)], [number("half", 0.5)])


if __name__ == "__main__":
    speech()
    turn()
    isolation()
