package gate

import (
	"net/http"
	"strings"
)

// ByTarget names a request of the AWS JSON protocols by its service's action,
// such as AmazonSQS.SendMessage, and one of the query protocol by its path.
func ByTarget(r *http.Request) string {
	if target := r.Header.Get("X-Amz-Target"); target != "" {
		return target
	}
	return ByPath(r)
}

// ByPath names a request by its method and path.
func ByPath(r *http.Request) string { return r.Method + " " + r.URL.Path }

// ByS3 names a request of S3, addressed by path, by its operation.
func ByS3(r *http.Request) string {
	query := r.URL.Query()
	_, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	kind := "Object"
	if key == "" {
		kind = "Bucket"
	}
	copied := r.Header.Get("X-Amz-Copy-Source") != ""
	switch {
	case query.Has("tagging"):
		kind += "Tagging"
	case query.Has("partNumber") && copied:
		return "UploadPartCopy"
	case query.Has("partNumber") && r.Method == http.MethodPut:
		return "UploadPart"
	case query.Has("uploads") && r.Method == http.MethodGet:
		return "ListMultipartUploads"
	case query.Has("uploads"):
		return "CreateMultipartUpload"
	case query.Has("uploadId"):
		return map[string]string{
			http.MethodGet: "ListParts", http.MethodPost: "CompleteMultipartUpload", http.MethodDelete: "AbortMultipartUpload",
		}[r.Method]
	case query.Has("versions"):
		return "ListObjectVersions"
	case query.Has("list-type"):
		return "ListObjectsV2"
	case query.Has("delete"):
		return "DeleteObjects"
	case copied:
		return "CopyObject"
	}
	return map[string]string{
		http.MethodGet: "Get", http.MethodHead: "Head", http.MethodPut: "Put", http.MethodDelete: "Delete", http.MethodPost: "Post",
	}[r.Method] + kind
}
