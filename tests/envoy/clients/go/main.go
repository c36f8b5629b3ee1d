// A service that uses OpenTelemetry: for each line, the headers of a request (a JSON object) that it was sent, those that it
// sends on, as its SDK makes them.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"

	"go.opentelemetry.io/contrib/propagators/jaeger"
	"go.opentelemetry.io/contrib/propagators/ot"
	"go.opentelemetry.io/otel/propagation"
)

func main() {
	all := propagation.NewCompositeTextMapPropagator(propagation.Baggage{}, jaeger.Jaeger{}, ot.OT{})
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		headers, carrier := propagation.MapCarrier{}, propagation.MapCarrier{}
		if err := json.Unmarshal(lines.Bytes(), &headers); err != nil {
			panic(err)
		}
		propagation.Baggage{}.Inject(all.Extract(context.Background(), headers), carrier)
		text, _ := json.Marshal(carrier)
		fmt.Println(string(text))
	}
}
