module mafalda.example/go-mediasoup

go 1.24.0

require github.com/jiyeyuran/mediasoup-go/v2 v2.6.1

require (
	github.com/google/flatbuffers v25.2.10+incompatible // indirect
	github.com/rs/xid v1.6.0 // indirect
	golang.org/x/sync v0.11.0 // indirect
)
