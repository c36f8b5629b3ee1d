module carry

go 1.25.0

require (
	go.opentelemetry.io/contrib/propagators/jaeger v1.46.0
	go.opentelemetry.io/contrib/propagators/ot v1.46.0
	go.opentelemetry.io/otel v1.46.0
)

require (
	github.com/cespare/xxhash/v2 v2.3.0 // indirect
	github.com/go-logr/logr v1.4.4 // indirect
	github.com/go-logr/stdr v1.2.2 // indirect
	go.opentelemetry.io/auto/sdk v1.2.1 // indirect
	go.opentelemetry.io/otel/metric v1.46.0 // indirect
	go.opentelemetry.io/otel/trace v1.46.0 // indirect
	go.uber.org/multierr v1.11.0 // indirect
)
