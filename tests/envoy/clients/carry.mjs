// A service that uses OpenTelemetry: for each line, the headers of a request (a JSON object) that it was sent, those that it
// sends on, as its SDK makes them.
import { createInterface } from 'node:readline'
import { ROOT_CONTEXT, defaultTextMapGetter, defaultTextMapSetter } from '@opentelemetry/api'
import { CompositePropagator, W3CBaggagePropagator } from '@opentelemetry/core'
import { JaegerPropagator } from '@opentelemetry/propagator-jaeger'
import { OTTracePropagator } from '@opentelemetry/propagator-ot-trace'

const propagators = [new W3CBaggagePropagator(), new JaegerPropagator(), new OTTracePropagator()]
const propagator = new CompositePropagator({ propagators })

for await (const line of createInterface({ input: process.stdin })) {
  const context = propagator.extract(ROOT_CONTEXT, JSON.parse(line), defaultTextMapGetter)
  const carrier = {}
  new W3CBaggagePropagator().inject(context, carrier, defaultTextMapSetter)
  console.log(JSON.stringify(carrier))
}
