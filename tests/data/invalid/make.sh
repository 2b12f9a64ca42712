#!/bin/sh
# Makes the certificates and keys here that rcgen cannot make. Run in this folder, with OpenSSL 3. They are valid for a
# hundred years; the tests look at them as of January 2027.
set -eu
days=36500
extensions='subjectAltName=DNS:recre.store
basicConstraints=critical,CA:FALSE
keyUsage=critical,digitalSignature
extendedKeyUsage=serverAuth'

# self_signed NAME GENPKEY-OPTIONS...
self_signed() {
    name=$1
    shift
    openssl genpkey "$@" -out "$name.key" 2>/dev/null
    openssl req -x509 -new -key "$name.key" -days $days -subj "/CN=$name" -out "$name.pem" \
        -addext subjectAltName=DNS:recre.store -addext basicConstraints=critical,CA:FALSE \
        -addext keyUsage=critical,digitalSignature -addext extendedKeyUsage=serverAuth
}

self_signed rsa1024 -algorithm RSA -pkeyopt rsa_keygen_bits:1024
self_signed rsa2040 -algorithm RSA -pkeyopt rsa_keygen_bits:2040
self_signed rsa2048 -algorithm RSA -pkeyopt rsa_keygen_bits:2048
self_signed rsa4096 -algorithm RSA -pkeyopt rsa_keygen_bits:4096
self_signed rsa4104 -algorithm RSA -pkeyopt rsa_keygen_bits:4104
self_signed p521 -algorithm EC -pkeyopt ec_paramgen_curve:secp521r1
self_signed secp256k1 -algorithm EC -pkeyopt ec_paramgen_curve:secp256k1
mv rsa2048.pem rsa2048.key rsa4096.pem rsa4096.key ../valid/

# The same key in the forms that other tools write.
openssl pkey -in ../valid/rsa2048.key -traditional -out ../valid/rsa2048.pkcs1.key
openssl pkey -in ../valid/rsa2048.key -aes256 -passout pass:secret -out encrypted.key
openssl rsa -in ../valid/rsa2048.key -traditional -aes128 -passout pass:secret -out encrypted.pkcs1.key 2>/dev/null
openssl pkcs12 -export -in ../valid/rsa2048.pem -inkey ../valid/rsa2048.key -passout pass:secret -out rsa2048.p12
openssl crl2pkcs7 -nocrl -certfile ../valid/rsa2048.pem -out rsa2048.p7b.pem
openssl crl2pkcs7 -nocrl -certfile ../valid/rsa2048.pem -outform DER -out rsa2048.p7b
openssl req -new -key ../valid/rsa2048.key -subj /CN=recre.store -out rsa2048.csr

# A CA whose own signature is SHA-1, and what it signs: with SHA-1, with SHA-256, and with a CA key too short for today.
openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out ca.key 2>/dev/null
openssl req -x509 -new -sha1 -key ca.key -days $days -subj '/CN=SHA-1 Root' -out sha1-root.pem \
    -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign
openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:prime256v1 -out leaf.key
openssl req -new -key leaf.key -subj /CN=recre.store -out leaf.csr
for hash in sha1 sha256; do
    printf '%s\n' "$extensions" | openssl x509 -req -in leaf.csr -CA sha1-root.pem -CAkey ca.key -$hash \
        -days $days -set_serial 1 -extfile /dev/stdin -out leaf-$hash.pem 2>/dev/null
done
openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:1024 -out short-ca.key 2>/dev/null
openssl req -x509 -new -key short-ca.key -days $days -subj '/CN=Short CA' -out short-ca.pem \
    -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign
printf '%s\n' "$extensions" | openssl x509 -req -in leaf.csr -CA short-ca.pem -CAkey short-ca.key \
    -days $days -set_serial 2 -extfile /dev/stdin -out leaf-of-short-ca.pem 2>/dev/null

# A CA with a P-256 key that signs with SHA-512, and one with a P-521 key: OpenSSL and browsers check both, ring neither.
for curve in P-256 P-521; do
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:$curve -noenc -sha512 -days $days -subj "/CN=$curve CA" \
        -keyout curve-ca.key -out $curve-ca.pem -addext basicConstraints=critical,CA:TRUE \
        -addext keyUsage=critical,keyCertSign 2>/dev/null
    printf '%s\nauthorityKeyIdentifier=keyid\n' "$extensions" | openssl x509 -req -in leaf.csr -CA $curve-ca.pem -CAkey curve-ca.key \
        -sha512 -days $days -set_serial 3 -extfile /dev/stdin -out leaf-of-$curve.pem 2>/dev/null
done
rm -f ca.key short-ca.key curve-ca.key leaf.csr
