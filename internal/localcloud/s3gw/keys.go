package s3gw

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"syscall"

	"github.com/gofiber/fiber/v3"
	"github.com/versity/versitygw/backend/posix"
	"github.com/versity/versitygw/s3api/utils"
	"github.com/versity/versitygw/s3err"
)

// maxSegment is the most bytes a file system takes between two slashes.
const maxSegment = 255

// misfit says why this server cannot hold key, or "" if it can. Its keys are
// file paths, so some keys that S3 tells apart would name one file.
func misfit(key string) string {
	for i, segment := range strings.Split(strings.TrimSuffix(key, "/"), "/") {
		switch {
		case segment == "":
			return "it has an empty segment (a slash at the beginning, or two in a row)"
		case segment == "." || segment == "..":
			return fmt.Sprintf("it has the segment %q", segment)
		case len(segment) > maxSegment:
			return fmt.Sprintf("it has a segment of %d bytes, more than %d", len(segment), maxSegment)
		case strings.ContainsRune(segment, 0):
			return "it has a NUL byte"
		case i == 0 && segment == posix.MetaTmpDir:
			return fmt.Sprintf("its first segment is %q, where uploads under way are kept", segment)
		}
	}
	return ""
}

// refuseMisfits answers every request for an object whose key this server
// cannot hold, before it can reach another object: such an object does not
// exist, and it cannot be written.
func refuseMisfits(c fiber.Ctx) error {
	path, err := url.PathUnescape(string(c.Request().URI().PathOriginal()))
	if err != nil {
		return c.Next()
	}
	_, key, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	if key == "" {
		return c.Next()
	}
	why := misfit(key)
	if why == "" && strings.HasSuffix(key, "/") && carriesData(c) {
		why = "it ends in a slash and has data"
	}
	if why == "" {
		return c.Next()
	}
	switch c.Method() {
	case http.MethodPut, http.MethodPost:
		return sendError(c, unholdable(key, why))
	case http.MethodDelete:
		if !c.RequestCtx().QueryArgs().Has("uploadId") {
			c.Status(http.StatusNoContent)
			return nil
		}
	}
	return sendError(c, s3err.GetAPIError(s3err.ErrNoSuchKey))
}

// carriesData reports whether the request begins or makes an object with data.
func carriesData(c fiber.Ctx) bool {
	if c.RequestCtx().QueryArgs().Has("uploads") {
		return true
	}
	if c.Method() != http.MethodPut || c.RequestCtx().QueryArgs().Has("tagging") {
		return false
	}
	length := c.Get("X-Amz-Decoded-Content-Length", c.Get("Content-Length"))
	n, err := strconv.ParseInt(length, 10, 64)
	return err == nil && n > 0
}

func sendError(c fiber.Ctx, err s3err.S3Error) error {
	c.Set(fiber.HeaderContentType, fiber.MIMEApplicationXML)
	return c.Status(err.StatusCode()).Send(err.XMLBody(utils.EnsureRequestIDs(c)))
}

func unholdable(key, why string) s3err.APIError {
	return s3err.APIError{
		Code:           "InvalidArgument",
		Description:    fmt.Sprintf("The local S3 server keeps objects as files and cannot hold the key %q: %s. S3 itself would take it.", key, why),
		HTTPStatusCode: http.StatusBadRequest,
	}
}

// collision returns a 409 if key would need a file where a directory is, or the
// other way round: S3 holds "x" beside "x/y", a file system does not. The
// working directory is the data directory.
func collision(bucket, key string) error {
	info, err := os.Stat(bucket + "/" + key)
	switch {
	case err == nil && info.IsDir() && !strings.HasSuffix(key, "/"):
		return collides("ExistingObjectIsDirectory", key, key+"/")
	case errors.Is(err, syscall.ENOTDIR):
		for i := range key {
			if key[i] != '/' {
				continue
			}
			if info, err := os.Stat(bucket + "/" + key[:i]); err == nil && !info.IsDir() {
				return collides("ObjectParentIsFile", key, key[:i])
			}
		}
	}
	return nil
}

func collides(code, key, other string) s3err.APIError {
	return s3err.APIError{
		Code:           code,
		Description:    fmt.Sprintf("The local S3 server keeps objects as files and cannot hold the key %q beside %q. S3 itself would take both.", key, other),
		HTTPStatusCode: http.StatusConflict,
	}
}
