"""A service that uses OpenTelemetry: for each line, the headers of a request (a JSON object) that it was sent, those that it
sends on, as its SDK makes them."""

import json
import sys

from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.propagators.jaeger import JaegerPropagator
from opentelemetry.propagators.ot_trace import OTTracePropagator

PROPAGATOR = CompositePropagator([W3CBaggagePropagator(), JaegerPropagator(), OTTracePropagator()])

for line in sys.stdin:
    carrier = {}
    W3CBaggagePropagator().inject(carrier, PROPAGATOR.extract(json.loads(line), Context()))
    print(json.dumps(carrier), flush=True)
