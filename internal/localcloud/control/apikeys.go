package control

import (
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"
)

const apiKeysPath = "/apikeys/"

// PutAPIKey makes an API key of API Gateway, or gives it another value.
func (s *Server) PutAPIKey(id, value string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.apiKeys[id] = value
}

// serveAPIKeys answers GetApiKey, in the REST protocol.
func (s *Server) serveAPIKeys(w http.ResponseWriter, r *http.Request) {
	id := strings.TrimPrefix(r.URL.Path, apiKeysPath)
	s.mu.Lock()
	value, ok := s.apiKeys[id]
	s.mu.Unlock()
	failure := s.fault(r, "GetApiKey")
	if failure == nil && !ok {
		failure = newError("NotFoundException", "Invalid API Key identifier specified")
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Amzn-Requestid", uuid.NewString())
	if failure != nil {
		w.Header().Set("X-Amzn-Errortype", failure.Code)
		status := http.StatusForbidden
		if failure.Code == "NotFoundException" {
			status = http.StatusNotFound
		}
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(map[string]string{"message": failure.Message}) // the client is gone
		return
	}
	out := map[string]any{"id": id, "name": id, "enabled": true, "createdDate": epoch(time.Now())}
	if r.URL.Query().Get("includeValue") == "true" {
		out["value"] = value
	}
	_ = json.NewEncoder(w).Encode(out) // the client is gone
}
