"""Walks an expression graph, the JSON form in which the Python client sends its queries.

A graph is a dictionary of named nodes. A node is a constant, an array or dictionary of nodes, a
reference to another node or to a function's argument, a function definition, or an invocation of
an algorithm. Algorithms are Python functions in a registry, by their Earth
Engine name; their parameters carry Earth Engine's argument names in snake case.
"""

from __future__ import annotations

import inspect
import keyword
import re
from collections.abc import Callable, Mapping
from typing import Any

from tests.support.earth_engine.values import EarthEngineError

_ALGORITHMS: dict[str, Callable] = {}


def algorithm(*names: str) -> Callable[[Callable], Callable]:
    """Register a function as what Earth Engine calls by these names."""

    def register(function: Callable) -> Callable:
        _ALGORITHMS.update(dict.fromkeys(names, function))
        return function

    return register


def evaluate(expression: Mapping[str, Any]) -> Any:
    """Return the value of an expression, `{"result": name, "values": {name: node}}`."""
    return _Graph(expression["values"]).reference(expression["result"], {})


class _Graph:
    def __init__(self, nodes: Mapping[str, Any]):
        self.nodes = nodes
        self._values: dict[str, Any] = {}
        self._free: dict[str, frozenset[str]] = {}

    def reference(self, name: str, arguments: Mapping[str, Any]) -> Any:
        """Evaluate a named node, once only where it depends on no function argument."""
        if self._free_arguments_of(name):
            return self.node(self.nodes[name], arguments)
        if name not in self._values:
            self._values[name] = self.node(self.nodes[name], {})
        return self._values[name]

    def node(self, node: Mapping[str, Any], arguments: Mapping[str, Any]) -> Any:
        """Evaluate a node, given the arguments of the functions around it."""
        [(kind, content)] = node.items()
        match kind:
            case "constantValue":
                return content
            case "integerValue":
                return int(content)
            case "valueReference":
                return self.reference(content, arguments)
            case "argumentReference":
                return arguments[content]
            case "arrayValue":
                return [self.node(item, arguments) for item in content["values"]]
            case "dictionaryValue":
                items = content["values"].items()
                return {key: self.node(item, arguments) for key, item in items}
            case "functionDefinitionValue":
                return self._function(content, arguments)
            case "functionInvocationValue":
                return self._invoke(content, arguments)
        raise EarthEngineError(f"the local server does not know expression nodes of kind '{kind}'")

    def _function(self, definition: Mapping[str, Any], outer: Mapping[str, Any]) -> Callable:
        names = definition["argumentNames"]

        def call(*values: Any) -> Any:
            return self.reference(
                definition["body"], {**outer, **dict(zip(names, values, strict=True))}
            )

        return call

    def _invoke(self, call: Mapping[str, Any], arguments: Mapping[str, Any]) -> Any:
        if "functionName" not in call:
            raise EarthEngineError("the local server calls algorithms, not functions, by reference")
        values = {name: self.node(n, arguments) for name, n in call.get("arguments", {}).items()}
        return invoke(call["functionName"], values)

    def _free_arguments_of(self, name: str) -> frozenset[str]:
        if name not in self._free:
            self._free[name] = self._free_arguments(self.nodes[name])
        return self._free[name]

    def _free_arguments(self, node: Any) -> frozenset[str]:
        """Return the function arguments that a node needs from outside."""
        if isinstance(node, list):
            return frozenset().union(*map(self._free_arguments, node))
        if not isinstance(node, dict):
            return frozenset()
        if "argumentReference" in node:
            return frozenset([node["argumentReference"]])
        if "functionDefinitionValue" in node:
            function = node["functionDefinitionValue"]
            return self._free_arguments_of(function["body"]) - set(function["argumentNames"])
        if isinstance(node.get("valueReference"), str):
            return self._free_arguments_of(node["valueReference"])
        return self._free_arguments([v for k, v in node.items() if k != "constantValue"])


def invoke(name: str, arguments: Mapping[str, Any]) -> Any:
    """Call an algorithm by its Earth Engine name with Earth Engine's argument names."""
    if name not in _ALGORITHMS:
        raise EarthEngineError(f"Unknown algorithm '{name}': the local server does not support it")
    function = _ALGORITHMS[name]
    given = {_snake_case(key): value for key, value in arguments.items()}
    parameters = inspect.signature(function).parameters
    for key in given.keys() - parameters.keys():
        raise EarthEngineError(
            f"{name}: the local server does not support the argument '{key}', only "
            f"{', '.join(parameters)}"
        )
    for key, parameter in parameters.items():
        if parameter.default is parameter.empty and given.get(key) is None:
            raise EarthEngineError(f"{name}: Parameter '{key}' is required and may not be null.")
    return function(**given)


def _snake_case(name: str) -> str:
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
    return f"{name}_" if keyword.iskeyword(name) else name
