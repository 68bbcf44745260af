module mafalda/messages

go 1.24
