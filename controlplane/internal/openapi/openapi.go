// Package openapi writes the OpenAPI 3.1 document of the admin API. All of it follows from descriptors: paths from the
// operations REST routes by, schemas from messages and their options, descriptions from the comments in the protos. It
// knows no kind, policy or RPC by name. The admin API server generates the document once, when it is made, and serves it
// at /openapi.json.
package openapi

import (
	"encoding/json"
	"fmt"

	"keyward.dev/proto/descriptors"
	"keyward.dev/shared/catalog"

	"keyward.dev/controlplane/internal/adminapi/operation"
)

// object is a JSON object. encoding/json writes keys sorted, so the document is stable.
type object map[string]any

type list []any

// generator collects schemas while it walks the operations.
type generator struct {
	catalog  *catalog.Catalog
	comments descriptors.Comments
	schemas  object
	// inputs are the API's own messages that occur in requests. The others only ever are answers, which always hold every
	// field that cannot be absent.
	inputs map[string]bool
}

// Document returns the OpenAPI document as JSON.
func Document(cat *catalog.Catalog, ops []operation.Operation, version string) ([]byte, error) {
	comments, err := descriptors.Load()
	if err != nil {
		return nil, fmt.Errorf("generate OpenAPI document: %w", err)
	}
	g := &generator{catalog: cat, comments: comments, schemas: object{}, inputs: map[string]bool{}}
	g.findInputs(ops)
	g.fixedSchemas()
	paths := g.paths(ops)
	doc := object{
		"openapi": "3.1.0",
		"info": object{
			"title":       "Keyward admin API",
			"version":     version,
			"description": "Reads and writes the configuration of gateway groups. Every error is an RFC 9457 problem. Documents may be JSON or YAML.",
			"license":     object{"name": "Apache-2.0", "identifier": "Apache-2.0"},
		},
		"jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
		"paths":             paths,
		"components": object{
			"schemas":         g.schemas,
			"responses":       object{"Problem": problemResponse()},
			"securitySchemes": object{"bearer": object{"type": "http", "scheme": "bearer", "description": "An admin token: kwa_<id>_<secret>."}},
		},
		"security": list{object{"bearer": list{}}},
	}
	out, err := json.MarshalIndent(doc, "", " ")
	if err != nil {
		return nil, fmt.Errorf("generate OpenAPI document: %w", err)
	}
	return out, nil
}

func problemResponse() object {
	return object{
		"description": "What went wrong",
		"headers":     object{"Retry-After": object{"description": "Seconds to wait, with 429 and 503.", "schema": object{"type": "integer", "minimum": 0}}},
		"content":     object{"application/problem+json": object{"schema": ref("Problem")}},
	}
}

func ref(name string) object { return object{"$ref": "#/components/schemas/" + name} }
