package message

import "bytes"

// Frame finds the end of the first message in b, which holds what has come of a stream so far and starts with no CR or LF (RFC 3261
// sections 7.5 and 18.3). It returns the message's length with its body, 0 when more is needed, or an *Error when b cannot become a
// message: then nothing on the stream can be trusted any more, and it is to be closed. It allocates nothing, and never asks for more
// than MaxMessageBytes.
func Frame(b []byte) (int, error) {
	end := bytes.Index(b[:min(len(b), MaxHeaderBytes)], []byte("\r\n\r\n"))
	if end < 0 {
		if len(b) >= MaxHeaderBytes {
			return 0, errTooLarge
		}
		return 0, nil
	}
	end += len("\r\n\r\n")
	length, err := contentLength(b[:end])
	switch {
	case err != nil:
		return 0, err
	case end+length > MaxMessageBytes:
		return 0, errTooLarge
	case end+length > len(b):
		return 0, nil
	}
	return end + length, nil
}

// contentLength reads the one Content-Length among start line and headers, by the same lines that Parse sees, so that both agree on
// where a message ends.
func contentLength(head []byte) (int, *Error) {
	_, next := cutLine(head) // the start line
	length := int64(-1)
	for {
		start, end := next, 0
		var err *Error
		if end, next, err = headerLineAt(head, start); err != nil {
			return 0, err
		}
		if end == start {
			break
		}
		line := head[start:end]
		nameLen := span(line, isToken)
		colon := nameLen + space(line[nameLen:])
		if colon == len(line) || line[colon] != ':' || identify(line[:nameLen]) != HeaderContentLength {
			continue
		}
		if length >= 0 {
			return 0, errTwoLength
		}
		var ok bool
		if length, ok = number(bytes.Trim(line[colon+1:], " \t\r\n"), MaxMessageBytes+1); !ok {
			return 0, errLength
		}
	}
	if length < 0 {
		return 0, errMissingLength
	}
	return int(length), nil
}

// headerLineAt finds the header line that starts at pos of b: its end without the line end, folds included, and where the next starts.
// An empty line, which ends the headers, has its end at pos. With errLineEnd both are set still; with errUnterminated nothing is.
func headerLineAt(b []byte, pos int) (end, next int, err *Error) {
	for next = pos; ; {
		line, size := cutLine(b[next:])
		if size == 0 {
			return 0, 0, errUnterminated
		}
		end = next + len(line)
		if len(line) > 0 && line[len(line)-1] == '\r' {
			end--
		} else {
			err = errLineEnd // a bare LF: others may see no line end where we see one
		}
		next += size
		if end == pos || next == len(b) || b[next] != ' ' && b[next] != '\t' {
			return end, next, err
		}
	}
}

// unfold makes the folds of a header line plain spaces, which mean the same (RFC 3261 section 7.3.1).
func unfold(line []byte) {
	for {
		i := bytes.IndexByte(line, '\n')
		if i < 0 {
			return
		}
		line[i] = ' '
		if i > 0 && line[i-1] == '\r' {
			line[i-1] = ' '
		}
		line = line[i+1:]
	}
}
